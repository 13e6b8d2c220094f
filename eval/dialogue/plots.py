"""Pictures of the study: what each arm reaches, and how UNICORN learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_agent.eval.pictures import INK, LINE, draw_interval, new_axes, new_figure, save_png
from persona_agent.recommend.dialogue.unicorn.training import Round

if TYPE_CHECKING:
    from persona_agent.eval.dialogue.report import Row

GOLD = "#b7791f"
WINDOW = 5  # rounds that a point of the curve is the mean of


def draw(rows: Sequence[Row], curves: Mapping[str, Sequence[Round]], folder: Path) -> list[Path]:
    """Write the pictures to `folder` and return their paths.

    Raises PersonaAgentError where matplotlib is not installed.
    """
    found = []
    if rows:
        found.append(save_png(_arms(rows), folder / "arms.png"))
    if curves:
        found.append(save_png(_learning(curves), folder / "learning.png"))
    return found


def _arms(rows: Sequence[Row]) -> Any:  # Any: matplotlib has no types here
    """Return two panels with a line an arm: SR@15 and turns, with intervals over users."""
    figure = new_figure(9.5, 0.26 * len(rows) + 1.2)
    shown = list(rows)[::-1]
    for place, (name, label) in enumerate(
        (("success", "SR@15, 95% over users"), ("turns", "turns, failures count 15")), 1
    ):
        axes = new_axes(figure, 1, 2, place)
        for height, row in enumerate(shown):
            draw_interval(axes, getattr(row, name), height, LINE)
        named = [row.arm for row in shown] if place == 1 else [""] * len(shown)
        axes.set_yticks(range(len(shown)), named, fontsize=7)
        axes.set_xlabel(label, fontsize=8)
    return figure


def _learning(curves: Mapping[str, Sequence[Round]]) -> Any:  # Any: matplotlib has no types here
    """Return one panel: the share found in training, a line a training."""
    figure = new_figure(6.0, 3.2)
    axes = new_axes(figure)
    looks = product(("-", "--", ":", "-."), (LINE, GOLD, INK))
    for (name, rounds), (style, colour) in zip(curves.items(), looks, strict=False):
        values = [one.success for one in rounds]
        means = [
            sum(values[max(0, at - WINDOW + 1) : at + 1]) / min(at + 1, WINDOW)
            for at in range(len(values))
        ]
        axes.plot([one.number for one in rounds], means, style, color=colour, label=name)
    axes.set_ylabel(f"SR@15 in training, mean of {WINDOW} rounds", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel("rounds of 100 episodes", fontsize=8)
    return figure

"""Pictures of the study: what each arm reaches, and how UNICORN learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_agent.errors import PersonaAgentError
from persona_agent.recommend.dialogue.unicorn.training import Round

if TYPE_CHECKING:
    from persona_agent.eval.dialogue.report import Row

INK, BLUE, GOLD = "#1f2933", "#2b6cb0", "#b7791f"
DPI = 130
WINDOW = 5  # rounds that a point of the curve is the mean of


def draw(rows: Sequence[Row], curves: Mapping[str, Sequence[Round]], folder: Path) -> list[Path]:
    """Write the pictures to `folder` and return their paths.

    Raises PersonaAgentError where matplotlib is not installed.
    """
    found = []
    if rows:
        found.append(folder / "arms.png")
        _save(_arms(rows), found[-1])
    if curves:
        found.append(folder / "learning.png")
        _save(_learning(curves), found[-1])
    return found


def _arms(rows: Sequence[Row]) -> Any:  # Any: matplotlib has no types here
    """Return two panels with a line an arm: SR@15 and turns, with intervals over users."""
    figure = _figure(9.5, 0.26 * len(rows) + 1.2)
    shown = list(rows)[::-1]
    for place, (name, label) in enumerate(
        (("success", "SR@15, 95% over users"), ("turns", "turns, failures count 15")), 1
    ):
        axes = figure.add_subplot(1, 2, place)
        for height, row in enumerate(shown):
            one = getattr(row, name)
            axes.plot([one.low, one.high], [height, height], color=BLUE, linewidth=2)
            axes.plot([one.mean], [height], "o", color=BLUE, markersize=4)
        named = [row.arm for row in shown] if place == 1 else [""] * len(shown)
        axes.set_yticks(range(len(shown)), named, fontsize=7)
        _plain(axes, label)
    return figure


def _learning(curves: Mapping[str, Sequence[Round]]) -> Any:  # Any: matplotlib has no types here
    """Return one panel: the share found in training, a line a training."""
    figure = _figure(6.0, 3.2)
    axes = figure.add_subplot(1, 1, 1)
    for (name, rounds), colour in zip(curves.items(), (BLUE, GOLD, INK) * 4, strict=False):
        values = [one.success for one in rounds]
        means = [
            sum(values[max(0, at - WINDOW + 1) : at + 1]) / min(at + 1, WINDOW)
            for at in range(len(values))
        ]
        axes.plot([one.number for one in rounds], means, color=colour, label=name)
    axes.set_ylabel(f"SR@15 in training, mean of {WINDOW} rounds", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    _plain(axes, "rounds of 100 episodes")
    return figure


def _plain(axes: Any, label: str) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=7)
    axes.set_xlabel(label, fontsize=8)


def _figure(width: float, height: float) -> Any:  # Any: matplotlib has no types here
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PersonaAgentError(
            'pictures need matplotlib: pip install "persona-agent-framework[eval]"'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:  # Any: matplotlib has no types here
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})

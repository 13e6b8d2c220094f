"""Pictures of a study, as PNG: what each arm reaches, what each factor does, and for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_agent.eval.pictures import (
    GOOD,
    INK,
    LINE,
    MUTED,
    draw_interval,
    new_axes,
    new_figure,
    save_png,
    side_of,
)
from persona_agent.eval.stack.effects import Finding
from persona_agent.eval.stack.verdict import Effect

BAR, NONE, GRAPH = "#5a6b7b", LINE, "#b7791f"
LEGEND = "NDCG@10, 95% over users. Blue: no relation, gold: graph,\npale: controls, dark: bars; dotted: EASE"


def draw(findings: Sequence[Finding], folder: Path) -> list[Path]:
    """Write the pictures to `folder` and return their paths.

    Raises PersonaAgentError where matplotlib is not installed.
    """
    paths = [
        save_png(_arms(findings), folder / "arms.png"),
        save_png(_effects(findings), folder / "effects.png"),
    ]
    varied = [one for one in findings if one.terciles]
    if varied:
        paths.append(save_png(_entropy(varied), folder / "entropy.png"))
    return paths


def _arms(findings: Sequence[Finding]) -> Any:  # Any: matplotlib has no types here
    """Return one panel a data set: NDCG@10 of every arm, best on top, and EASE as a line."""
    tallest = max(len(one.rows) for one in findings)
    figure = new_figure(4.6 * len(findings) + 1.0, 0.24 * tallest + 1.2)
    for place, one in enumerate(findings, 1):
        axes = _axes(figure, findings, place)
        rows = sorted(one.rows, key=lambda row: row.ndcg.mean)
        for height, row in enumerate(rows):
            draw_interval(axes, row.ndcg, height, _colour(row.arm))
        ease = next(row.ndcg.mean for row in rows if row.arm == "ease")
        axes.axvline(ease, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rows)), [row.arm for row in rows], fontsize=7)
        axes.set_xlabel(LEGEND, fontsize=8)
        # popularity is far below all others, and would press them together
        low = min(row.ndcg.low for row in rows if row.arm != "popularity")
        axes.set_xlim(left=low - 0.005)
    return figure


def _effects(findings: Sequence[Finding]) -> Any:  # Any: matplotlib has no types here
    """Return one panel a data set: main, simple and control contrasts with their intervals."""
    names = [*findings[0].main, *findings[0].simple, *findings[0].other]
    figure = new_figure(3.6 * len(findings) + 1.6, 0.28 * len(names) + 1.1)
    for place, one in enumerate(findings, 1):
        axes = _axes(figure, findings, place)
        families: tuple[Mapping[str, Effect], ...] = (one.main, one.simple, one.other)
        effects = [pair for family in families for pair in family.items()][::-1]
        for height, (_, effect) in enumerate(effects):
            interval = effect.contrast.interval
            draw_interval(axes, interval, height, side_of(interval))
        axes.axvline(0, color=INK, linewidth=0.8)
        for edge in (len(one.other), len(one.other) + len(one.simple)):
            axes.axhline(edge - 0.5, color=MUTED, linewidth=0.5)
        named = [name for name, _ in effects] if place == 1 else [""] * len(effects)
        axes.set_yticks(range(len(effects)), named, fontsize=8)
        axes.set_xlabel("difference of NDCG@10, 95%", fontsize=8)
    return figure


def _entropy(findings: Sequence[Finding]) -> Any:  # Any: matplotlib has no types here
    """Return one panel a data set: each factor's effect by how varied a user's history is."""
    figure = new_figure(3.6 * len(findings) + 0.6, 3.0)
    for place, one in enumerate(findings, 1):
        axes = _axes(figure, findings, place)
        for shift, (name, parts) in enumerate(one.terciles.items()):
            colour = (GRAPH, NONE, GOOD)[shift % 3]
            x = [at + 0.12 * (shift - 1) for at in range(len(parts))]
            for at, part in zip(x, parts, strict=True):
                axes.plot([at, at], [part.low, part.high], color=colour, linewidth=1.8)
            axes.plot(
                x, [part.mean for part in parts], "o-", color=colour, label=name, markersize=5
            )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(range(3), ["least", "middling", "most"])
        axes.set_xlabel("variety of genres in the user's history, thirds", fontsize=8)
        if place == 1:
            axes.set_ylabel("difference of NDCG@10, 95%", fontsize=8)
            axes.legend(fontsize=8, frameon=False)
    return figure


def _colour(arm: str) -> str:
    relation, _, rest = arm.partition("-")
    if not rest:
        return BAR
    return {"none": NONE, "graph": GRAPH}.get(relation, MUTED)


def _axes(figure: Any, findings: Sequence[Finding], place: int) -> Any:
    axes = new_axes(figure, 1, len(findings), place)
    axes.set_title(findings[place - 1].dataset, fontsize=10, loc="left", color=INK)
    return axes

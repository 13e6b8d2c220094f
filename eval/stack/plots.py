"""Pictures of a study, as PNG: what each arm reaches, what each factor does, and for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_agent.errors import PersonaAgentError
from persona_agent.eval.stack.effects import Finding
from persona_agent.eval.stack.verdict import Effect
from persona_agent.eval.statistics import Interval

INK, MUTED, GOOD, BAD = "#1f2933", "#8a97a6", "#2f855a", "#c05621"
BAR, NONE, GRAPH = "#5a6b7b", "#2b6cb0", "#b7791f"
DPI = 130
LEGEND = "NDCG@10, 95% over users. Blue: no relation, gold: graph,\npale: controls, dark: bars; dotted: EASE"


def draw(findings: Sequence[Finding], folder: Path) -> list[Path]:
    """Write the pictures to `folder` and return their paths.

    Raises PersonaAgentError where matplotlib is not installed.
    """
    paths = [folder / "arms.png", folder / "effects.png"]
    _save(_arms(findings), paths[0])
    _save(_effects(findings), paths[1])
    varied = [one for one in findings if one.terciles]
    if varied:
        paths.append(folder / "entropy.png")
        _save(_entropy(varied), paths[-1])
    return paths


def _arms(findings: Sequence[Finding]) -> Any:  # Any: matplotlib has no types here
    """Return one panel a data set: NDCG@10 of every arm, best on top, and EASE as a line."""
    tallest = max(len(one.rows) for one in findings)
    figure = _figure(4.6 * len(findings) + 1.0, 0.24 * tallest + 1.2)
    for place, one in enumerate(findings, 1):
        axes = _axes(figure, 1, len(findings), place, title=one.dataset)
        rows = sorted(one.rows, key=lambda row: row.ndcg.mean)
        for height, row in enumerate(rows):
            colour = _colour(row.arm)
            _interval(axes, row.ndcg, height, colour)
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
    figure = _figure(3.6 * len(findings) + 1.6, 0.28 * len(names) + 1.1)
    for place, one in enumerate(findings, 1):
        axes = _axes(figure, 1, len(findings), place, title=one.dataset)
        families: tuple[Mapping[str, Effect], ...] = (one.main, one.simple, one.other)
        effects = [pair for family in families for pair in family.items()][::-1]
        for height, (_, effect) in enumerate(effects):
            interval = effect.contrast.interval
            colour = GOOD if interval.low > 0 else BAD if interval.high < 0 else MUTED
            _interval(axes, interval, height, colour)
        axes.axvline(0, color=INK, linewidth=0.8)
        for edge in (len(one.other), len(one.other) + len(one.simple)):
            axes.axhline(edge - 0.5, color=MUTED, linewidth=0.5)
        named = [name for name, _ in effects] if place == 1 else [""] * len(effects)
        axes.set_yticks(range(len(effects)), named, fontsize=8)
        axes.set_xlabel("difference of NDCG@10, 95%", fontsize=8)
    return figure


def _entropy(findings: Sequence[Finding]) -> Any:  # Any: matplotlib has no types here
    """Return one panel a data set: each factor's effect by how varied a user's history is."""
    figure = _figure(3.6 * len(findings) + 0.6, 3.0)
    for place, one in enumerate(findings, 1):
        axes = _axes(figure, 1, len(findings), place, title=one.dataset)
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


def _interval(axes: Any, interval: Interval, height: float, colour: str) -> None:
    axes.plot([interval.low, interval.high], [height, height], color=colour, linewidth=2)
    axes.plot([interval.mean], [height], "o", color=colour, markersize=4.5)


def _colour(arm: str) -> str:
    relation, _, rest = arm.partition("-")
    if not rest:
        return BAR
    return {"none": NONE, "graph": GRAPH}.get(relation, MUTED)


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


def _axes(figure: Any, rows: int, columns: int, place: int, *, title: str) -> Any:
    axes = figure.add_subplot(rows, columns, place)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    return axes


def _save(figure: Any, path: Path) -> None:  # Any: matplotlib has no types here
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})

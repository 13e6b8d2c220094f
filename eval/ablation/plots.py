"""Pictures of an ablation: what each arm gains, and how gains change along the curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from persona_agent.eval.ablation.effects import Curve, Row
from persona_agent.eval.pictures import (
    INK,
    LINE,
    MUTED,
    draw_interval,
    new_axes,
    new_figure,
    side_of,
)
from persona_agent.eval.statistics import Contrast

PER_ROW = 3


def arms_figure(rows: Sequence[Row], metric: str, reference: str) -> Any:  # Any: matplotlib
    """Return each arm's gain over the reference with its interval, in score and in likelihood."""
    shown = [row for row in rows if row.gain is not None][::-1]
    figure = new_figure(9.6, 0.3 * len(shown) + 1.2)
    panels = (
        (f"gain in {metric} (95% over people)", [row.gain for row in shown]),
        ("gain in log-likelihood of the truth", [row.loglik_gain for row in shown]),
    )
    for place, (label, gains) in enumerate(panels, 1):
        axes = new_axes(figure, 1, 2, place)
        for height, gain in enumerate(gains):
            if gain is not None:
                _bar(axes, gain, height)
        axes.axvline(0, color=INK, linewidth=0.8)
        names = [row.arm for row in shown] if place == 1 else [""] * len(shown)
        axes.set_yticks(range(len(shown)), names, fontsize=8)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.set_xlabel(f"{label}, over {reference}", fontsize=8)
    return figure


def curves_figure(curves: Sequence[Curve], metric: str, reference: str) -> Any:  # Any: matplotlib
    """Return a panel a curve: gains with their intervals along what is varied."""
    wide = min(PER_ROW, len(curves))
    high = -(-len(curves) // PER_ROW)
    figure = new_figure(3.5 * wide + 0.4, 2.7 * high)
    for place, curve in enumerate(curves, 1):
        axes = new_axes(figure, high, wide, place)
        for at, point in enumerate(curve.points):
            one = point.gain.interval
            axes.plot([at, at], [one.low, one.high], color=side_of(one), linewidth=2)
            axes.plot([at], [one.mean], "o", color=side_of(one), markersize=5, zorder=3)
        means = [point.gain.interval.mean for point in curve.points]
        axes.plot(range(len(means)), means, color=LINE, linewidth=1)
        axes.axhline(0, color=INK, linewidth=0.8)
        labels = [point.label for point in curve.points]
        turned = 35 if max(map(len, labels)) > 3 else 0
        axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=turned)
        axes.set_title(curve.name, fontsize=9)
        axes.set_xlabel(curve.along, fontsize=8)
        if place % PER_ROW == 1 or wide == 1:
            axes.set_ylabel(f"gain in {metric}\nover {reference}", fontsize=8)
    return figure


def _bar(axes: Any, gain: Contrast, height: int) -> None:  # Any: matplotlib
    one = gain.interval
    draw_interval(axes, one, height, side_of(one) if gain.p_holm <= 0.05 else MUTED)

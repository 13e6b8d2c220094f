"""What all pictures of studies share: their look, their axes, and how they are written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from persona_agent.errors import PersonaAgentError
from persona_agent.eval.statistics import Interval

# Any, here: matplotlib has no types.
INK, MUTED, GOOD, BAD, LINE = "#1f2933", "#8a97a6", "#2f855a", "#c05621", "#2b6cb0"
DPI = 130


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches; raises PersonaAgentError without matplotlib."""
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


def new_axes(figure: Any, rows: int = 1, columns: int = 1, place: int = 1) -> Any:
    """Return the axes at a place, from 1, of a figure's grid."""
    axes = figure.add_subplot(rows, columns, place)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    return axes


def draw_interval(axes: Any, one: Interval, height: float, colour: str) -> None:
    """Draw an interval as a line at a height, with its mean as a dot."""
    axes.plot([one.low, one.high], [height, height], color=colour, linewidth=2)
    axes.plot([one.mean], [height], "o", color=colour, markersize=4.5)


def side_of(one: Interval) -> str:
    """Return the colour of a difference: by the side of 0 that all of it is on, if it is."""
    return GOOD if one.low > 0 else BAD if one.high < 0 else MUTED


def save_png(figure: Any, path: Path) -> Path:
    """Write a picture, the same bytes each time, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
    return path


def svg(figure: Any) -> str:
    """Return a picture as SVG text, for a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

"""The demo's report: one HTML file with table, charts, and each user's persona through time."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from persona_agent.errors import PersonaAgentError
from persona_agent.eval.demo import AFTER, ARMS, BEFORE, CHOICES, NEXT, STATISTICS, Demo, Row
from persona_agent.eval.pictures import (
    BAD,
    GOOD,
    INK,
    LINE,
    MUTED,
    draw_interval,
    new_axes,
    new_figure,
    side_of,
    svg,
)
from persona_agent.eval.statistics import Interval
from persona_agent.files import write_whole
from persona_agent.persona import Diff, Persona, diff


def title(found: Demo) -> str:
    """Return what the table shows, in one line."""
    return (
        f"The next {NEXT} films of {found.settings.users} people: error of the predicted rating, "
        f"and the right one of {CHOICES}"
    )


def verdict(found: Demo) -> list[str]:
    """Return what the figures allow to be said, a sentence each."""
    changed = sum(one.accepted for one in found.alignments)
    tried = sum(len(one.tried) for one in found.alignments)
    gate = f"The gate accepted a change for {changed} of {len(found.alignments)} personas"
    lines = [
        f"{gate}, out of {tried} candidates.",
        f"Alignment changes the rating error by {_less(found.mae_change)}: "
        + f"{_decide(found.mae_change)}; {found.worse:.0%} of users are predicted worse.",
        f"Alignment changes the choice accuracy by {found.accuracy_change}: "
        + f"{_decide(found.accuracy_change)}.",
    ]
    lines += [f"Not aligned: {reason}" for reason in found.failures]
    return lines


def _less(gain: Interval) -> str:
    """Return a gain as a change of an error, which falls as the gain rises."""
    return f"{-gain.mean:+.3f} [{-gain.high:+.3f}, {-gain.low:+.3f}]"


def _decide(gain: Interval) -> str:
    if gain.low > 0:
        return "it helps"
    if gain.high < 0:
        return "it hurts"
    return "no effect can be told from chance with this many users"


def write(found: Demo, path: Path, *, model: str) -> Path:
    """Write the report to `path` and return it; the file is complete or not there.

    Raises PersonaAgentError with the way out where the `eval` extra is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise PersonaAgentError(
            'the report needs jinja2 and matplotlib: pip install "persona-agent-framework[eval]"'
        ) from error
    source = files("persona_agent.eval").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source).render(
        title=title(found),
        verdict=verdict(found),
        rows=[_cells(row) for row in found.rows],
        arms_chart=_arms_chart(found.rows),
        users_chart=_users_chart(found),
        people=[_person(found, user) for user in found.histories],
        question=found.question,
        answers=found.answers,
        model=model,
        usage=found.usage,
        settings=found.settings,
        choices=CHOICES,
    )
    write_whole(path, page)
    return path


def _cells(row: Row) -> dict[str, str]:
    own = row.arm == STATISTICS
    return {
        "arm": row.arm,
        "mae": f"{row.mae:.3f}",
        "mae_gain": "reference" if own else str(row.mae_gain),
        "accuracy": f"{row.accuracy:.2f}",
        "accuracy_gain": "reference" if own else str(row.accuracy_gain),
        "worse": "" if own else f"{row.worse:.0%}",
    }


def _person(found: Demo, user: str) -> dict[str, object]:
    versions = found.histories[user]
    steps = [
        {"persona": one, "diff": _change(versions, i), "scores": dict(one.scores)}
        for i, one in enumerate(versions)
    ]
    alignment = next((a for a in found.alignments if a.before.scope.user == user), None)
    return {
        "user": user,
        "steps": steps,
        "errors": {arm: found.errors[arm][user] for arm in ARMS},
        "tried": alignment.tried if alignment else (),
        "reason": alignment.reason if alignment else "not aligned",
        "evidence": found.evidence,
    }


def _change(versions: Sequence[Persona], place: int) -> Diff:
    before = versions[place - 1] if place else Persona(versions[place].scope)
    return diff(before, versions[place])


def _arms_chart(rows: Sequence[Row]) -> str:
    """Return an SVG: each arm's gain over the user's own statistics, with its interval."""
    figure = new_figure(7.2, 0.46 * len(rows) + 0.9)
    axes = new_axes(figure)
    shown = [row for row in rows if row.arm != STATISTICS][::-1]
    for place, row in enumerate(shown):
        draw_interval(axes, row.mae_gain, place, side_of(row.mae_gain))
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(shown)), [row.arm for row in shown])
    axes.set_xlabel("stars by which the error falls, against the user's own statistics (95%)")
    return svg(figure)


def _users_chart(found: Demo) -> str:
    """Return an SVG: each user's error before and after alignment."""
    figure = new_figure(7.2, 3.2)
    axes = new_axes(figure)
    users = sorted(found.errors[BEFORE], key=lambda user: found.errors[BEFORE][user])
    for place, user in enumerate(users):
        before, after = found.errors[BEFORE][user], found.errors[AFTER][user]
        colour = GOOD if after < before else BAD if after > before else MUTED
        axes.plot([place, place], [before, after], color=colour, linewidth=2)
        axes.plot([place], [before], "o", markerfacecolor="white", markeredgecolor=INK, zorder=3)
        axes.plot([place], [after], "o", color=colour, markersize=5, zorder=4)
        axes.plot([place], [found.errors[STATISTICS][user]], "_", color=LINE, markersize=12)
    axes.set_xticks(range(len(users)), users, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("mean absolute error, stars")
    return svg(figure)

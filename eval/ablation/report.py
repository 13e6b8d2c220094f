"""The report of an ablation: report.md and report.html with tables, pictures and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from persona_agent.errors import PersonaAgentError
from persona_agent.eval.ablation import plots
from persona_agent.eval.ablation.claims import Judged
from persona_agent.eval.ablation.effects import Curve, Row
from persona_agent.eval.ablation.study import INSTALL, Ablation
from persona_agent.eval.pictures import save_png, svg
from persona_agent.eval.statistics import Contrast
from persona_agent.files import write_whole

Table = list[list[str]]  # the first row is the head


def write(found: Ablation, folder: Path) -> Path:
    """Write report.md, report.html and their pictures to `folder`; return the HTML's path.

    Raises PersonaAgentError with the way out where the extra `eval` is not installed.
    """
    run = found.run
    pictures = [("arms", plots.arms_figure(found.rows, run.metric, run.settings.reference))]
    if found.curves:
        drawn = plots.curves_figure(found.curves, run.metric, run.settings.reference)
        pictures.append(("curves", drawn))
    for name, figure in pictures:
        save_png(figure, folder / f"{name}.png")
    text = markdown(found, [name for name, _ in pictures])
    write_whole(folder / "report.md", text)
    page = html(found, [svg(figure) for _, figure in pictures])
    write_whole(folder / "report.html", page)
    return folder / "report.html"


def title(found: Ablation) -> str:
    """Return what was run, in one line."""
    one = found.run.settings
    people = max(row.users for row in found.rows)
    queries = len({(e.user, e.query) for e in found.run.examples})
    return (
        f"{found.run.task} with {found.run.model}: {len(found.rows)} arms, {people} people, "
        f"{queries} queries (seed {one.seed})"
    )


def markdown(found: Ablation, pictures: Sequence[str] = ()) -> str:
    """Return the report as Markdown."""
    parts = [f"# Ablation: {title(found)}", explained(found)]
    parts += ["## Arms", _lines(arms_table(found.rows))]
    parts += [f"![{name}]({name}.png)" for name in pictures]
    parts += ["## Claims", _lines(claims_table(found)), untested(found)]
    for curve in found.curves:
        parts += [f"## {curve.name[:1].upper()}{curve.name[1:]}", _lines(curve_table(curve))]
    parts += ["## Cost", _lines(cost_table(found.rows)), failures(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(found: Ablation, pictures: Sequence[str]) -> str:
    """Return the report as one HTML page, pictures inside."""
    try:
        import jinja2
    except ImportError as error:
        raise PersonaAgentError(f"the report needs jinja2: {INSTALL}") from error
    source = files("persona_agent.eval.ablation").joinpath("report.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source).render(
        title=title(found),
        explained=explained(found),
        arms=arms_table(found.rows),
        claims=claims_table(found),
        untested=untested(found),
        curves=[(curve.name, curve_table(curve)) for curve in found.curves],
        cost=cost_table(found.rows),
        pictures=pictures,
        failures=failures(found),
    )


def explained(found: Ablation) -> str:
    """Return how to read the tables."""
    return (
        f"Gains are over {found.run.settings.reference} in {found.run.metric}, errors with a minus, "
        "so that above 0 is better; 95% intervals by a bootstrap over people (paired, expanded for "
        "few people); p of sign flips, by Holm over all arms. Detectable: the true difference that "
        "so many people show with a chance of 80% at the strictest step of Holm. Worse: share of "
        "people predicted worse than by the reference."
    )


def arms_table(rows: Sequence[Row]) -> Table:
    """Return the arms with metrics and gains."""
    metrics = list(rows[0].metrics)
    head = ["arm", *metrics, "gain", "p", "detectable", "worse", "log-lik.", "its gain", "its p"]
    return [head, *([row.arm, *_metrics(row, metrics), *_gains(row)] for row in rows)]


def claims_table(found: Ablation) -> Table:
    """Return the claims that could be tested, with their verdicts."""
    head = ["whose", "claim", "verdict", "by likelihood", "why"]
    return [
        head,
        *(
            [one.claim.source, f"{one.claim.text} ({_pair(one)})", one.verdict, one.by_likelihood,
             one.reason]
            for one in found.claims
            if one.gain is not None
        ),
    ]  # fmt: skip


def untested(found: Ablation) -> str:
    """Return which claims could not be tested, for want of an arm; empty if all were."""
    claims = [f"{one.claim.text} ({_pair(one)})" for one in found.claims if one.gain is None]
    return f"Not tested, for want of an arm: {'; '.join(claims)}." if claims else ""


def curve_table(curve: Curve) -> Table:
    """Return the points of a curve."""
    head = [curve.along, "arm", "gain", "p (alone)"]
    rows = [[p.label, p.arm, str(p.gain.interval), f"{p.gain.p:.2g}"] for p in curve.points]
    return [head, *rows]


def cost_table(rows: Sequence[Row]) -> Table:
    """Return what each arm would cost alone."""
    head = [
        "arm",
        "requests",
        "prompt tokens",
        "of which cached",
        "written",
        "seconds",
        "what it is",
    ]
    return [
        head,
        *(
            [row.arm, f"{row.requests:,}", f"{row.prompt_tokens:,}", f"{row.cached_tokens:,}",
             f"{row.completion_tokens:,}", f"{row.seconds:.0f}", row.about]
            for row in rows
        ),
    ]  # fmt: skip


def failures(found: Ablation) -> str:
    """Return which arms failed for whom, and the first reason; empty if none did."""
    lines = []
    for row in found.rows:
        reasons = [one.error for one in found.run.spent if one.arm == row.arm and one.error]
        unread = sum(one.error is not None for one in found.run.examples if one.arm == row.arm)
        if reasons:
            lines.append(f"{row.arm} failed for {len(reasons)} people: {reasons[0]}.")
        if unread:
            lines.append(f"{row.arm}: {unread} predictions could not be used and count as wrong.")
    return " ".join(lines)


def _pair(one: Judged) -> str:
    return f"{one.claim.better} > {one.claim.worse}"


def _metrics(row: Row, names: Sequence[str]) -> list[str]:
    return [f"{row.metrics[name]:.3f}" if name in row.metrics else "" for name in names]


def _gains(row: Row) -> list[str]:
    if row.gain is None:
        gain = ["reference", "", "", ""]
    else:
        gain = [*_cells(row.gain), f"{row.gain.detectable:.3f}", f"{row.worse:.0%}"]
    level = "" if row.loglik is None else f"{row.loglik:.3f}"
    dense = ["", ""] if row.loglik_gain is None else _cells(row.loglik_gain)
    return [*gain, level, *dense]


def _cells(gain: Contrast) -> list[str]:
    return [str(gain.interval), f"{gain.p_holm:.2g}"]


def _lines(table: Table) -> str:
    rows = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

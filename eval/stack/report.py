"""The report of a study: report.md with tables and verdict, its pictures, and results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from persona_agent.eval.stack.design import Design, Settings
from persona_agent.eval.stack.effects import Finding, finding
from persona_agent.eval.stack.plots import draw
from persona_agent.eval.stack.store import Store
from persona_agent.eval.stack.verdict import Effect
from persona_agent.eval.statistics import Interval

DETAILS = ("recall@20", "ndcg@100", "coverage@10", "genre_distance@10")


def write(store: Store, design: Design, data: Path | None) -> list[Finding]:
    """Write the report beside the fits and return what it tells.

    Raises NotEnoughData if the study is not finished.
    """
    findings = [finding(store, design, one, data) for one in design.datasets]
    pictures = draw(findings, store.folder)
    text = markdown(findings, design, [path.name for path in pictures])
    (store.folder / "report.md").write_text(text, encoding="utf-8")
    told = {"design": design.to_json(), "findings": [one.to_json() for one in findings]}
    (store.folder / "results.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return findings


def markdown(findings: Sequence[Finding], design: Design, pictures: Sequence[str]) -> str:
    """Return the report as Markdown."""
    parts = ["# Do relations and personas stack?", _protocol(design)]
    parts += [f"## {one.dataset}: verdict\n\n{' '.join(one.verdict)}" for one in findings]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    for one in findings:
        parts += [f"## {one.dataset}", _size(one), _arms(one)]
        parts += ["Pre-registered contrasts, p by Holm over all of them:", _contrasts(one.main)]
        parts += ["Simple effects and controls, p of each alone:"]
        parts += [_contrasts({**one.simple, **one.other})]
        parts += [_trends(one)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _protocol(design: Design) -> str:
    how = (
        "each user's liked items dealt 8:1:1 at random"
        if design.protocol == "weak"
        else "users held out whole, 80% of each known"
    )
    return (
        f"Liked items of the 5-core, {how}, {design.splits} splits x {design.seeds} seeds; full "
        f"ranking, NDCG@10; every arm tries {design.trials} settings on the validation part of the "
        "first split, or the few listed for models without training; training stops by "
        f"validation, at most {design.epochs} epochs, doubled where that binds. The unit is the "
        "user: means over splits and seeds, intervals by bootstrap, p by sign flips."
    )


def _size(one: Finding) -> str:
    return (
        f"{one.users} users, {one.items} items, {one.interactions} liked, {one.facts} facts that "
        "join items."
    )


def _arms(one: Finding) -> str:
    details = [name for name in DETAILS if name in one.rows[0].means]
    head = ["arm", "NDCG@10", *details, "fit, s", "best epoch", "capped", "settings"]
    lines = [head, ["---"] * len(head)]
    for row in sorted(one.rows, key=lambda row: -row.ndcg.mean):
        lines.append(
            [
                row.arm,
                _level(row.ndcg),
                *(f"{row.means[name]:.4f}" for name in details),
                f"{row.seconds:.1f}",
                f"{row.epochs:g}",
                str(row.capped),
                _settings(row.settings),
            ]
        )
    return _table(lines)


def _contrasts(effects: Mapping[str, Effect]) -> str:
    head = ["contrast", "difference", "p", "detectable", "splits above 0"]
    lines = [head, ["---"] * len(head)]
    for name, effect in effects.items():
        one = effect.contrast
        above = sum(mean > 0 for mean in effect.by_split)
        lines.append(
            [
                name,
                _difference(one.interval),
                f"{one.p_holm:.2g}",
                f"{one.detectable:.4f}",
                f"{above} of {len(effect.by_split)}",
            ]
        )
    return _table(lines)


def _trends(one: Finding) -> str:
    if not one.trends:
        return "No slopes against the variety of genres: the items have no genres."
    told = "; ".join(
        f"{name} {_difference(found.interval)}, p {found.p:.2g}"
        for name, found in one.trends.items()
    )
    return f"Slope of the effect against the entropy of genres in the history, a bit: {told}."


def _level(interval: Interval) -> str:
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _difference(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def _settings(settings: Settings) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "-"


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""What arms gain over each other, people being the unit: tables, curves and their intervals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from persona_agent.errors import NotEnoughData
from persona_agent.eval.ablation.run import Example, Run, Spent
from persona_agent.eval.statistics import Contrast, contrast, share_worse, with_holm
from persona_agent.types import Record

Scores = Mapping[str, Mapping[str, Sequence[float]]]  # by arm and user, query by query
FAMILY = re.compile(r"(recent|similar|hybrid)-(\d+)")
SELF = "persona"
REPLACED = {
    SELF: "own",
    "persona-similar-user": "most alike",
    "persona-similar-user-25": "25%",
    "persona-similar-user-50": "50%",
    "persona-similar-user-75": "75%",
    "persona-similar-user-last": "least alike",
    "persona-random-user": "random",
}


@dataclass(frozen=True, slots=True)
class Row(Record):
    """One arm of the table, for those for whom neither it nor the reference failed.

    `gain` is over the reference in the first metric, higher is better, `loglik_gain` in the mean
    log-probability of the truth, None where one of the two has none; p is by Holm over all arms.
    `worse` is the share of people whose mean score falls. Tokens and seconds are of all people.
    """

    arm: str
    about: str
    metrics: Mapping[str, float]
    gain: Contrast | None
    loglik: float | None
    loglik_gain: Contrast | None
    worse: float
    users: int
    failed: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Point(Record):
    """One arm of a curve: where it stands, and its gain over the reference."""

    label: str
    arm: str
    gain: Contrast


@dataclass(frozen=True, slots=True)
class Curve(Record):
    """How the gain changes along something, such as the number of memories."""

    name: str
    along: str
    points: tuple[Point, ...]


def rows_of(run: Run) -> list[Row]:
    """Return the table, in the order the arms were named.

    Raises NotEnoughData if the reference arm failed for all but one.
    """
    reference = run.settings.reference
    scores, likelihoods = scores_of(run), likelihoods_of(run)
    if len(scores.get(reference, {})) < 2:
        raise NotEnoughData(
            f"the reference arm {reference!r} has results of {len(scores.get(reference, {}))} "
            "people; 2 or more are needed"
        )
    names = run.settings.names
    others = [name for name in names if name != reference]
    gains = with_holm(_against(scores, others, reference))
    dense = with_holm(_against(likelihoods, others, reference))
    return [
        _row(run, name, scores, likelihoods, gains.get(name), dense.get(name)) for name in names
    ]


def scores_of(run: Run) -> Scores:
    """Return each arm's scores by user."""
    return _by_arm(run.examples, lambda one: one.score)


def likelihoods_of(run: Run) -> Scores:
    """Return each arm's log-likelihoods by user; arms that lack some are left out."""
    without = {one.arm for one in run.examples if one.loglik is None}
    known = [one for one in run.examples if one.arm not in without]
    return _by_arm(known, lambda one: one.loglik or 0.0)


def compare(scores: Scores, new: str, old: str) -> Contrast | None:
    """Return what arm `new` gains over arm `old`, paired by query, people being the unit.

    None where fewer than two people have results of both.
    """
    both = sorted(scores.get(new, {}).keys() & scores.get(old, {}).keys())
    if len(both) < 2:
        return None
    differences = [fmean(scores[new][user]) - fmean(scores[old][user]) for user in both]
    return contrast(differences, expand=True)


def curves_of(run: Run) -> list[Curve]:
    """Return the curves that the arms make: memories, options, and whose persona it is."""
    reference = run.settings.reference
    scores = scores_of(run)
    families: dict[tuple[str, str], dict[float, str]] = {}
    for name in run.settings.names:
        for key, value in _places(name, run):
            families.setdefault(key, {})[value] = name
    curves = []
    for (family, along), members in families.items():
        points = [
            Point(f"{value:g}", name, gain)
            for value, name in sorted(members.items())
            if (gain := compare(scores, name, reference)) is not None
        ]
        if len(points) > 1:
            curves.append(Curve(family, along, tuple(points)))
    replaced = [
        Point(label, name, gain)
        for name, label in REPLACED.items()
        if name in run.settings.names and (gain := compare(scores, name, reference)) is not None
    ]
    if len(replaced) > 2:
        curves.append(Curve("profile replacement", "whose persona", tuple(replaced)))
    return curves


def _places(name: str, run: Run) -> list[tuple[tuple[str, str], float]]:
    """Return the curves that an arm is a point of: their names, and where it stands."""
    if match := FAMILY.fullmatch(name):
        return [((f"{match[1]} memories", "memories"), float(match[2]))]
    base, _, given = name.partition("@")
    pairs = [pair.split("=") for pair in given.split(":")] if given else []
    if len(pairs) == 1:
        ((key, value),) = pairs
        return [((base, key), float(value))]
    if pairs or not any(one.startswith(f"{base}@") for one in run.settings.names):
        return []
    keys = {one.partition("@")[2].partition("=")[0] for one in run.settings.names
            if one.startswith(f"{base}@")}  # fmt: skip
    return [((base, key), float(getattr(run.settings.options, key))) for key in sorted(keys)]


def _against(scores: Scores, arms: Sequence[str], reference: str) -> dict[str, Contrast]:
    found = {name: compare(scores, name, reference) for name in arms}
    return {name: one for name, one in found.items() if one is not None}


def _by_arm(examples: Sequence[Example], value: Callable[[Example], float]) -> Scores:
    found: dict[str, dict[str, list[float]]] = {}
    for one in examples:
        found.setdefault(one.arm, {}).setdefault(one.user, []).append(value(one))
    return found


def _row(
    run: Run,
    name: str,
    scores: Scores,
    likelihoods: Scores,
    gain: Contrast | None,
    dense: Contrast | None,
) -> Row:
    own, old = scores.get(name, {}), scores[run.settings.reference]
    both = own.keys() & old.keys()
    spent = [one for one in run.spent if one.arm == name]
    logliks = [value for values in likelihoods.get(name, {}).values() for value in values]
    return Row(
        arm=name,
        about=run.about[name],
        metrics=run.metrics[name],
        gain=gain,
        loglik=fmean(logliks) if logliks else None,
        loglik_gain=dense,
        worse=share_worse({u: own[u] for u in both}, {u: old[u] for u in both}),
        users=len(own),
        failed=sum(one.error is not None for one in spent),
        requests=sum(one.requests for one in spent),
        prompt_tokens=_sum(spent, "prompt_tokens"),
        cached_tokens=_sum(spent, "cached_tokens"),
        completion_tokens=_sum(spent, "completion_tokens"),
        seconds=sum(one.seconds for one in spent),
    )


def _sum(spent: Sequence[Spent], what: str) -> int:
    return sum(getattr(one, what) for one in spent)

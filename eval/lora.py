"""Do weights that were tuned on people predict them better than the model as it is?

MovieLens-100K, the rating of each person's latest films, from the likelihoods of the stars. Some
people make a cohort and are learned from; others are predicted: by the model alone, by the
cohort's adapter while it learns, by an adapter of their own earlier ratings, and by one of their
own that begins with the cohort's. All see the same memories in the prompt: the ratings before,
half a window or more of them. Nothing later than a film is learned or shown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from persona_agent.errors import NotEnoughData
from persona_agent.eval.movielens import RATING, MovieLens, interaction
from persona_agent.eval.statistics import Contrast, contrast, with_holm
from persona_agent.train.base import Base, Weights
from persona_agent.train.encode import rows_of
from persona_agent.train.examples import examples
from persona_agent.train.loop import train
from persona_agent.train.options import TrainOptions
from persona_agent.train.score import Ask, asks_of, option_logprobs
from persona_agent.types import Interaction, Record

PRIOR = "label frequencies, no model"
BASE = "the model as it is"
COHORT = "cohort's adapter"
OWN = "own adapter"
BOTH = "own adapter on the cohort's"
CURVE = (0.25, 0.5)

# What is being done, how much of it is done, and due.
Tell: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings(Record):
    """How many people are learned from and predicted, by how much of each.

    `cohort_ratings` and `own_ratings` are the latest of each person's that are learned. `options`
    train the cohort's adapter and everybody's own.
    """

    cohort: int = 40
    people: int = 24
    cohort_ratings: int = 48
    own_ratings: int = 48
    queries: int = 10
    seed: int = 0
    options: TrainOptions = TrainOptions(rate=1e-3, epochs=1)

    def __post_init__(self) -> None:
        for name, least in (("cohort", 1), ("people", 2), ("queries", 1), ("own_ratings", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True, slots=True)
class Arm(Record):
    """How well one way predicts: nats of the real rating, error of the expected, per person."""

    nats: float
    error: float
    right: float


@dataclass(frozen=True, slots=True)
class Report(Record):
    """Every way, its paired differences from the model as it is, and the cohort's learning curve.

    Differences are below 0 where the way is better, and over people; `worse` is the share of
    people whose nats it made worse. `curve` has the nats by outcomes learned.
    """

    settings: Settings
    arms: Mapping[str, Arm]
    nats: Mapping[str, Contrast]
    error: Mapping[str, Contrast]
    worse: Mapping[str, float]
    curve: Mapping[int, float]
    seconds: Mapping[str, float]

    def __str__(self) -> str:
        lines = [f"{'':<30} nats   error  right"]
        for name, arm in self.arms.items():
            lines.append(f"{name:<30} {arm.nats:.3f}  {arm.error:.3f}  {arm.right:.3f}")
        for what, found in (("nats", self.nats), ("error", self.error)):
            for name, one in found.items():
                lines.append(f"{what} - {name}: {one.interval}, corrected p {one.p_holm:.3g}")
        worse = ", ".join(f"{name} {share:.2f}" for name, share in self.worse.items())
        curve = ", ".join(f"{count}: {nats:.3f}" for count, nats in self.curve.items())
        return "\n".join([*lines, f"made worse: {worse}", f"learning curve: {curve}"])


@dataclass(frozen=True, slots=True)
class _Person:
    """Somebody who is predicted: what was earlier, what to predict, and the asks about it."""

    known: tuple[Interaction, ...]
    real: tuple[int, ...]
    asks: tuple[Ask, ...]


def measure(data: MovieLens, base: Base, settings: Settings, tell: Tell) -> Report:
    """Return how well each way predicts; raises NotEnoughData for too few people."""
    options = settings.options
    cohort, people = _people(data, settings)
    asks = [ask for one in people for ask in one.asks]
    clock = _Clock()

    def predicted(model: Any) -> list[list[float]]:  # Any: the model or an adapted one
        told = option_logprobs(base, model, asks, options.max_tokens)
        return [logprobs for own in told for logprobs in own]

    tell(BASE, 0, 1)
    ways = {PRIOR: _priors(people), BASE: predicted(base.model)}
    clock.note(BASE)
    tell(BASE, 1, 1)
    made = [one for history in cohort for one in examples(history, RATING, options)]
    rows = rows_of(base.tokenizer, made, options.max_tokens)
    curve = {0: _nats(ways[BASE], people)}

    def probe(step: int, steps: int, model: Any) -> None:
        tell(COHORT, step, steps)
        due = {max(1, round(share * steps)) for share in CURVE}
        if step in due:
            learned = round(step / steps * sum(map(len, cohort)) * options.epochs)
            curve[learned] = _nats(predicted(model), people)
        elif step == steps:
            ways[COHORT] = predicted(model)
            curve[sum(map(len, cohort)) * options.epochs] = _nats(ways[COHORT], people)

    weights = train(base, rows, options, probe=probe).weights
    clock.note(COHORT)
    starts: dict[str, Weights | None] = {OWN: None, BOTH: weights}
    for name, start in starts.items():
        ways[name] = []
        for place, one in enumerate(people):
            tell(name, place, len(people))
            own = rows_of(base.tokenizer, examples(one.known, RATING, options), options.max_tokens)
            tuned = train(base, own, options, start=start).weights
            with base.adapted(options, tuned) as model:
                model.eval()
                told = option_logprobs(base, model, one.asks, options.max_tokens)
            ways[name] += [logprobs for some in told for logprobs in some]
        tell(name, len(people), len(people))
        clock.note(name)
    return _report(settings, ways, people, curve, clock.seconds)


class _Clock:
    """How long each part took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def note(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now


def _people(data: MovieLens, settings: Settings) -> tuple[list[list[Interaction]], list[_Person]]:
    """Return the cohort's histories, and others to predict, drawn by the seed."""
    least = settings.own_ratings + settings.queries
    able = [user for user, ratings in data.ratings.items() if len(ratings) >= least]
    wanted = settings.cohort + settings.people
    if len(able) < wanted:
        raise NotEnoughData(f"{len(able)} people have {least} ratings; {wanted} are asked for")
    drawn = np.random.default_rng(settings.seed).permutation(len(able))[:wanted]
    names = [able[place] for place in drawn]
    cohort = [
        [interaction(data, one) for one in data.ratings[name][-settings.cohort_ratings :]]
        for name in names[: settings.cohort]
    ]
    people = []
    for name in names[settings.cohort :]:
        events = [interaction(data, one) for one in data.ratings[name]]
        first = events[-settings.queries].when
        known = [one for one in events if one.when < first][-settings.own_ratings :]
        asked = [one for one in events if one.when >= first]
        asked = asked[-settings.queries :]
        wide = replace(settings.options, held_out=0)
        asks = asks_of([*known, *asked], RATING, len(asked), wide)
        real = tuple(int(ask.text[slice(*span)]) for ask in asks for span in ask.spans)
        if known:
            people.append(_Person(tuple(known), real, tuple(asks)))
    return cohort, people


def _priors(people: Sequence[_Person]) -> list[list[float]]:
    """Return the log of each person's own frequencies of stars so far, one added to each."""
    found = []
    for one in people:
        counts = np.ones(5)
        for rated in one.known:
            counts[int(rated.outcome or 0) - 1] += 1
        found += [np.log(counts / counts.sum()).tolist()] * len(one.real)
    return found


def _nats(told: Sequence[Sequence[float]], people: Sequence[_Person]) -> float:
    return float(_per_person(_losses(told, people), people).mean())


def _losses(told: Sequence[Sequence[float]], people: Sequence[_Person]) -> list[float]:
    real = [star for one in people for star in one.real]
    return [-logprobs[star - 1] for logprobs, star in zip(told, real, strict=True)]


def _errors(told: Sequence[Sequence[float]], people: Sequence[_Person]) -> list[float]:
    real = [star for one in people for star in one.real]
    expected = [
        math.fsum((i + 1) * math.exp(p) for i, p in enumerate(logprobs)) for logprobs in told
    ]
    return [abs(one - star) for one, star in zip(expected, real, strict=True)]


def _per_person(values: Sequence[float], people: Sequence[_Person]) -> Any:  # Any: of numpy
    ends = np.cumsum([len(one.real) for one in people])[:-1]
    return np.array([part.mean() for part in np.split(np.asarray(values), ends)])


def _report(
    settings: Settings,
    ways: Mapping[str, Sequence[Sequence[float]]],
    people: Sequence[_Person],
    curve: Mapping[int, float],
    seconds: Mapping[str, float],
) -> Report:
    real = [star for one in people for star in one.real]
    nats = {name: _per_person(_losses(told, people), people) for name, told in ways.items()}
    errors = {name: _per_person(_errors(told, people), people) for name, told in ways.items()}
    right = {
        name: [float(np.argmax(told) + 1 == star) for told, star in zip(some, real, strict=True)]
        for name, some in ways.items()
    }
    others = [name for name in ways if name != BASE]
    return Report(
        settings,
        {
            name: Arm(
                float(nats[name].mean()),
                float(errors[name].mean()),
                float(_per_person(right[name], people).mean()),
            )
            for name in ways
        },
        with_holm({name: contrast(nats[name] - nats[BASE]) for name in others}),
        with_holm({name: contrast(errors[name] - errors[BASE]) for name in others}),
        {name: float((nats[name] > nats[BASE]).mean()) for name in others},
        dict(curve),
        dict(seconds),
    )

"""Predictions that need no model: what every other arm must beat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from persona_agent.eval import biases
from persona_agent.eval.ablation.world import Person, World
from persona_agent.task import Prediction, Task, situation
from persona_agent.types import Interaction


def label_prior(person: Person, world: World) -> list[Prediction]:
    """Return what the person's own label frequencies say, smoothed by one of each option.

    The text is the likeliest option, of equals the first; free text is the person's most frequent
    outcome, of equals the latest.
    """
    counts = Counter(one.outcome or "" for one in person.history)
    return [_by_counts(counts, query, world.task) for query in person.queries]


def _by_counts(counts: Counter[str], query: Interaction, task: Task) -> Prediction:
    options = situation(query, task).options
    if not options:
        latest = list(counts)[::-1]
        return Prediction(max(latest, key=lambda one: counts[one]) if latest else "")
    total = sum(counts[option] + 1 for option in options)
    logprobs = tuple(math.log((counts[option] + 1) / total) for option in options)
    best = max(range(len(options)), key=lambda i: (logprobs[i], -i))
    expected = None
    if task.numeric:
        pairs = zip(options, logprobs, strict=True)
        expected = math.fsum(float(option) * math.exp(one) for option, one in pairs)
    return Prediction(options[best], options, logprobs, expected)


@dataclass(frozen=True, slots=True)
class _Rated:
    film: str
    value: float


def user_item_bias(person: Person, world: World) -> list[Prediction]:
    """Return what user and item biases say: they know what everybody else did before.

    For numeric tasks only. It has no likelihood.
    """
    until = person.queries[0].when
    others = biases.fit(
        one
        for user, history in world.everybody.items()
        if user != person.user
        for one in _rated([event for event in history if event.when < until])
    )
    own = _rated(person.history)
    low, *_, high = world.task.values
    expected = [others.predict(own, _item(one), low=low, high=high) for one in person.queries]
    options = world.task.options
    return [Prediction(_nearest(one, options), options, expected=one) for one in expected]


def _rated(history: Sequence[Interaction]) -> list[_Rated]:
    return [_Rated(_item(one), float(one.outcome or "")) for one in history]


def _item(one: Interaction) -> str:
    return one.item or one.query


def _nearest(value: float, options: Sequence[str]) -> str:
    return min(options, key=lambda option: abs(float(option) - value))

"""A recommender's candidates in the order that a model expects this person to like them.

Where the engine gives log-probabilities, each candidate is predicted on its own, as any other
outcome of the user: no candidate sees another, so its place in the list cannot matter. Elsewhere
the model orders a list; since it favours places, it is shown the list in several random orders,
and the mean place counts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.persona import PersonaLine, render
from persona_agent.predict import Calibration, Job, predict
from persona_agent.program import Program, complete
from persona_agent.task import Prediction, Situation, Task
from persona_agent.types import (
    Interaction,
    Json,
    ModelReply,
    ModelRequest,
    Record,
    Sampling,
)

Way: TypeAlias = Literal["scored", "listed"]

MOST = 50  # candidates of one list: more do not fit a small model's prompt
SHUFFLES = 2
FUSION = 60.0  # of reciprocal ranks; Cormack, Clarke and Buettcher 2009


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """An item that may be recommended, and how a prompt shows it."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Reader(Record):
    """Whom a list is for: the persona's lines and what is remembered, in time order."""

    lines: tuple[PersonaLine, ...] = ()
    memories: tuple[Interaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Reranked(Record):
    """The best candidates, best first, and how the order came to be.

    `failed` counts the requests that gave nothing. A candidate without a score stands behind all
    that have one; if none has one, the order is the recommender's.
    """

    ids: tuple[str, ...]
    way: Way
    failed: int = 0


def rerank(
    candidates: Sequence[Candidate],
    reader: Reader,
    task: Task,
    k: int,
    *,
    wanted: str | None = None,
    calibration: Calibration = "none",
    way: Way | None = None,
    seed: int = 0,
) -> Program[Reranked]:
    """Return the `k` candidates, given in the recommender's order, that the model puts first.

    `task` is what is predicted of a candidate: a numeric one by its expectation, another by the
    log-probability of `wanted` among its options. Equal scores keep the recommender's order.
    Without `way` candidates are scored, and listed if the engine gives no log-probabilities.
    `seed` shuffles lists. Raises ValueError for more than 50 candidates, for ids that repeat, and
    for a task that cannot be scored.
    """
    _check(candidates, task, wanted, k)
    order = [one.id for one in candidates]
    if way != "listed":
        scores, failed = yield from _scored(candidates, reader, task, wanted, calibration)
        if scores or way == "scored" or not order:
            return Reranked(best(order, scores)[:k], "scored", failed)
    places, failed = yield from _listed(candidates, reader, task, seed)
    return Reranked(best(order, places)[:k], "listed", failed)


def best(order: Sequence[str], scores: Mapping[str, float]) -> tuple[str, ...]:
    """Return `order` by falling score; equal scores keep their order, what has none comes last.

    >>> best(["a", "b", "c", "d"], {"c": 2.0, "b": 1.0, "d": 2.0})
    ('c', 'd', 'b', 'a')
    """
    known = sorted((one for one in order if one in scores), key=lambda one: -scores[one])
    return (*known, *(one for one in order if one not in scores))


def fused(orders: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return several orders of the same items as one, by the sum of 1 / (60 + place).

    Equal sums keep the first order.

    >>> fused([["a", "b", "c"], ["c", "a", "b"]])
    ('a', 'c', 'b')
    """
    sums: dict[str, float] = {}
    for order in orders:
        for place, one in enumerate(order, start=1):
            sums[one] = sums.get(one, 0.0) + 1 / (FUSION + place)
    return best(list(sums), sums)


def _check(candidates: Sequence[Candidate], task: Task, wanted: str | None, k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    if len(candidates) > MOST:
        raise ValueError(f"there are {len(candidates)} candidates; at most {MOST} are reordered")
    if len({one.id for one in candidates}) != len(candidates):
        raise ValueError("a candidate comes twice; give each once")
    if task.numeric == (wanted is not None):
        raise ValueError("give `wanted` for a task with options, and none for a numeric one")
    if wanted is not None and wanted not in task.options:
        raise ValueError(f"wanted is {wanted!r}; task {task.name!r} has {task.options!r}")


def _scored(
    candidates: Sequence[Candidate],
    reader: Reader,
    task: Task,
    wanted: str | None,
    calibration: Calibration,
) -> Program[tuple[dict[str, float], int]]:
    """Return the scores by id, and how many predictions failed, all asked in one batch.

    Without log-probabilities there are no scores: a mere answer says little of an order.
    """
    jobs = [
        Job(reader.lines, reader.memories, Situation(one.text, task.options)) for one in candidates
    ]
    predictions = yield from predict(jobs, task, calibration=calibration)
    scores = {}
    for one, prediction in zip(candidates, predictions, strict=True):
        score = _score(prediction, wanted)
        if score is not None:
            scores[one.id] = score
    return scores, sum(one.error is not None for one in predictions)


def _score(prediction: Prediction, wanted: str | None) -> float | None:
    if prediction.logprobs is None:
        return None
    return prediction.expected if wanted is None else prediction.loglik(wanted)


def _listed(
    candidates: Sequence[Candidate], reader: Reader, task: Task, seed: int
) -> Program[tuple[dict[str, float], int]]:
    """Return minus the mean place by id over shuffled lists, and how many lists failed."""
    rng = random.Random(seed)
    orders = [rng.sample(candidates, len(candidates)) for _ in range(SHUFFLES)]
    replies = yield from complete([_list_request(one, reader, task) for one in orders])
    read = [_read(order, reply) for order, reply in zip(orders, replies, strict=True)]
    usable = [one for one in read if one]
    places = {
        one.id: -fmean(places.get(one.id, float(len(candidates))) for places in usable)
        for one in candidates
        if usable
    }
    return places, len(read) - len(usable)


def _list_request(order: Sequence[Candidate], reader: Reader, task: Task) -> ModelRequest:
    numbers: dict[str, Json] = {"type": "integer", "minimum": 1, "maximum": len(order)}
    listed: dict[str, Json] = {
        "type": "array",
        "items": numbers,
        "minItems": 1,
        "maxItems": len(order),
    }
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"order": listed},
        "required": ["order"],
        "additionalProperties": False,
    }
    messages = prompts.messages(
        "rerank",
        item=task.item_name,
        persona=render(reader.lines) or "- nothing yet",
        outcome_label=task.outcome_label.lower(),
        past="\n".join(f"- {_event(one)}" for one in reader.memories) or "- nothing yet",
        candidates="\n".join(
            f"{number}. {prompts.as_data(one.text, 200)}" for number, one in enumerate(order, 1)
        ),
    )
    sampling = Sampling(max_tokens=20 + 5 * len(order))
    return ModelRequest(messages, sampling, schema=schema, purpose="rerank")


def _event(one: Interaction) -> str:
    return f"{prompts.as_data(one.query, 200)}: {prompts.as_data(one.outcome or '', 60)}"


def _read(order: Sequence[Candidate], reply: ModelReply) -> dict[str, float]:
    """Return the place of each candidate that a reply names, the first time it does."""
    parsed = reply.parsed
    numbers = parsed.get("order") if reply.error is None and isinstance(parsed, dict) else None
    places: dict[str, float] = {}
    for number in numbers if isinstance(numbers, list) else []:
        if isinstance(number, int) and 1 <= number <= len(order):
            places.setdefault(order[number - 1].id, float(len(places) + 1))
    return places

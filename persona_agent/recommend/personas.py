"""What a person's personas say: why an item, what each persona is about, do lists mirror tastes.

A persona is one of several vectors of a person; each has its own score of every item, and attention
says how much each decides about an item. Nothing here depends on where the vectors come from: a
model joins by the port `PersonaModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from persona_agent.recommend import metrics
from persona_agent.recommend.data import Histories, HistoryLike, as_histories
from persona_agent.recommend.explain import Explanation, Reason, strongest
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.recommend.metrics import PerUser
from persona_agent.recommend.port import Ranking
from persona_agent.types import FloatArray, Record

BATCH = 256  # people whose attention to all items is held at once
ONE_SIDED = 0.95


class PersonaModel(Protocol):
    """A fitted recommender whose score of an item comes from several personas of a person."""

    @property
    def items(self) -> IdMap: ...

    def score(self, histories: HistoryLike, items: Sequence[str] | None = None) -> FloatArray: ...

    def attention(self, histories: HistoryLike) -> FloatArray:
        """Return (people, personas, items): how much each persona decides about each item.

        Over a person's personas it sums to 1; for an empty history all are equal.
        """
        ...

    def item_vectors(self) -> FloatArray:
        """Return (items, width): what nearness of items is measured by."""
        ...


@dataclass(frozen=True, slots=True)
class PersonaCard(Record):
    """One persona of a person: its share of the history, and the own items that it holds.

    An own item is held by the persona with the most attention to it. `ids` are those it holds,
    most attention first, and `weights` that attention; a persona may hold none.
    """

    persona: int
    share: float
    ids: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TasteDistribution:
    """Shares of personas, both (people, personas): in the history, and in the list shown.

    A row is all 0 where the history or the list is empty.
    """

    history: PerUser
    listed: PerUser

    @property
    def distance(self) -> PerUser:
        """Jensen-Shannon divergence in bits of each person, NaN where a row is empty."""
        return metrics.taste_distance(self.history, self.listed)


@dataclass(frozen=True, slots=True)
class Collapse(Record):
    """Whether personas are more than copies of each other.

    `cosine` is the mean cosine between two personas of a person, NaN for models with one;
    `one_sided` is the share of people of whose history one persona has more than .95.
    """

    cosine: float
    one_sided: float


def explain_by_persona(
    model: PersonaModel, history: Sequence[str], item: str, *, top: int | None = 5, own: int = 3
) -> Explanation:
    """Return the personas that decide about `item`, each with up to `own` items that support it.

    The first reason is the responsible persona. A reason's weight is the attention, so that the
    weights of all reasons and `rest` sum to 1, not to the score. Raises ValueError if the history
    is empty: somebody of whom nothing is known has no personas.
    """
    if own < 1:
        raise ValueError(f"own is {own}; it must be at least 1")
    (column,) = model.items.positions([item])
    person = as_histories([history], model.items)
    chosen = person.matrix.indices
    if not len(chosen):
        raise ValueError("the history is empty; personas explain from items that were chosen")
    attention = model.attention(person)[0]
    near = _cosines(model.item_vectors(), chosen, column)
    reasons = [
        Reason(
            "persona",
            tuple(model.items.ids[chosen[supporting(attention[persona, chosen], near, own)]]),
            float(attention[persona, column]),
        )
        for persona in range(len(attention))
    ]
    score = float(model.score(person, [item])[0, 0])
    return strongest(item, score, reasons, top, additive=False)


def supporting(attention: FloatArray, near: FloatArray, count: int) -> IntArray:
    """Return the positions of the own items that best support a persona's item, best first.

    `attention` (own,) is the persona's attention to each own item and `near` (own,) its cosine to
    the item; support is their product. At most `count`, only items with positive support, and one
    at least, however weak. Equal support: the lower position first.

    >>> supporting(np.array([1, 0.1, 0.9]), np.array([0.2, 0.9, 0.8]), 2).tolist()
    [2, 0]
    """
    support = attention * near
    order = np.argsort(-support, kind="stable")[:count]
    return order[: max(1, int((support[order] > 0).sum()))]


def persona_cards(
    model: PersonaModel, history: Sequence[str], *, own: int | None = 5
) -> tuple[PersonaCard, ...]:
    """Return a card for each persona, the largest share first, with up to `own` items (None: all).

    The shares sum to 1. An empty history has no cards.
    """
    person = as_histories([history], model.items)
    chosen = person.matrix.indices
    if not len(chosen):
        return ()
    attention = model.attention(person)[0][:, chosen]
    holder = attention.argmax(axis=0)
    cards = []
    for persona, weights in enumerate(attention):
        order = np.argsort(-weights, kind="stable")
        held = order[holder[order] == persona][:own]
        ids = tuple(model.items.ids[chosen[held]])
        cards.append(
            PersonaCard(persona, float(weights.mean()), ids, tuple(weights[held].tolist()))
        )
    return tuple(sorted(cards, key=lambda card: -card.share))


def taste_distribution(
    model: PersonaModel, histories: HistoryLike, ranking: Ranking
) -> TasteDistribution:
    """Return p_u(k), the mean attention of persona k over the history, and q_u(k), over the list.

    `ranking` has the rows of `histories` and the items of the model.
    """
    people = as_histories(histories, model.items)
    if len(ranking) != len(people) or ranking.items != model.items:
        raise ValueError(
            f"the ranking has {len(ranking)} rows of {len(ranking.items)} items for {len(people)} "
            f"histories and {len(model.items)} items; they must be the same people and items"
        )
    past, listed = [], []
    for begin in range(0, len(people), BATCH):
        rows = slice(begin, begin + BATCH)
        batch = people.take(rows)
        attention = model.attention(batch)
        past.append(mean_attention(attention, *_places(batch)))
        shown, place = np.nonzero(ranking.positions[rows] >= 0)
        listed.append(mean_attention(attention, shown, ranking.positions[rows][shown, place]))
    if not past:
        return TasteDistribution(np.zeros((0, 1)), np.zeros((0, 1)))
    return TasteDistribution(np.concatenate(past), np.concatenate(listed))


def mean_attention(attention: FloatArray, rows: IntArray, columns: IntArray) -> PerUser:
    """Return (people, personas): the mean of attention (people, personas, items) at these places.

    A person without a place gets zeros.
    """
    summed = np.zeros(attention.shape[:2])
    np.add.at(summed, rows, attention[rows, :, columns].astype(np.float64))
    shares: PerUser = summed / np.maximum(summed.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return shares


def effective_personas(shares: PerUser) -> PerUser:
    """Return exp(entropy) of each row of shares: 1 if one persona has it all, K if all are equal.

    >>> effective_personas(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [1.0, 2.0]
    """
    found: PerUser = np.exp2(metrics.entropy(shares))
    return found


def collapse(personas: FloatArray, shares: PerUser) -> Collapse:
    """Return the monitors of collapse, from vectors (people, personas, width) and their shares."""
    count = personas.shape[1]
    norms = np.linalg.norm(personas, axis=2, keepdims=True)
    unit = personas / np.maximum(norms, np.finfo(np.float32).tiny)
    cosines = np.einsum("pkd,pld->pkl", unit, unit)
    apart = cosines[:, ~np.eye(count, dtype=bool)]
    cosine = float(apart.mean()) if apart.size else float("nan")
    known = shares[shares.sum(axis=1) > 0]
    one_sided = float((known.max(axis=1) > ONE_SIDED).mean()) if len(known) else 0.0
    return Collapse(cosine, one_sided)


def _cosines(vectors: FloatArray, rows: IntArray, column: int) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1)
    products = vectors[rows] @ vectors[column]
    cosines: FloatArray = products / np.maximum(norms[rows] * norms[column], 1e-12)
    return cosines


def _places(histories: Histories) -> tuple[IntArray, IntArray]:
    rows = np.repeat(np.arange(len(histories)), np.diff(histories.matrix.indptr))
    return rows, histories.matrix.indices

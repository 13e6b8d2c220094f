"""How much a user may want each candidate: by any recommender, or by vectors that see answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from persona_agent.errors import InputError
from persona_agent.recommend.data import Csr, Histories, Interactions
from persona_agent.recommend.dialogue import state
from persona_agent.recommend.dialogue.entries import row_of, values_at, where, with_data
from persona_agent.recommend.dialogue.state import ACCEPTED, REJECTED, Beliefs
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.port import Recommender
from persona_agent.types import FloatArray

BATCH = 512  # histories that a recommender scores at once
SHARPNESS = (0.0, *(2 ** (step / 2) for step in range(-10, 15)))


class ItemScores(Protocol):
    """Scores candidates; higher is likelier. They compare within a dialogue only."""

    def at(self, beliefs: Beliefs, users: IntArray) -> FloatArray:
        """Return the score of each candidate, in the order of `beliefs.candidates`' entries."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FixedScores:
    """Scores (users, items) that do not change with what is said: of any recommender."""

    scores: FloatArray

    def at(self, beliefs: Beliefs, users: IntArray) -> FloatArray:
        candidates = beliefs.candidates
        found: FloatArray = self.scores[users[row_of(candidates)], candidates.indices]
        return found


def by_recommender(model: Recommender, histories: Histories, table: AttributeTable) -> FixedScores:
    """Return a fitted recommender's scores of the table's items, a row for each history.

    Items that it does not know, and those of the history, score as its lowest. Raises InputError if it knows none of them.
    """
    found = model.items.find(table.items)
    known = np.flatnonzero(found >= 0)
    if not len(known):
        raise InputError("the recommender knows none of the table's items; fit it on such")
    scores = np.empty((len(histories), len(table)), np.float32)
    for begin in range(0, len(histories), BATCH):
        rows = slice(begin, begin + BATCH)
        people = histories.take(rows)
        own = model.score(people)
        lowest = own.min(axis=1)
        scores[rows] = lowest[:, None]
        scores[rows, known] = own[:, found[known]]
        seen = table.items.find(people.items.ids[people.matrix.indices])
        owner = row_of(people.matrix)[seen >= 0]
        scores[begin + owner, seen[seen >= 0]] = lowest[owner]
    return FixedScores(scores)


@dataclass(frozen=True, slots=True, eq=False)
class SharedScores:
    """Scores (items,) that are the same for everybody: zeros where nothing is known."""

    scores: FloatArray

    def at(self, beliefs: Beliefs, users: IntArray) -> FloatArray:
        found: FloatArray = self.scores[beliefs.candidates.indices]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class SummedScores:
    """A sum of scores, each times its factor."""

    parts: tuple[tuple[ItemScores, float], ...]

    def at(self, beliefs: Beliefs, users: IntArray) -> FloatArray:
        found = np.zeros(beliefs.candidates.nnz, np.float32)
        for scores, factor in self.parts:
            found += np.float32(factor) * scores.at(beliefs, users)
        return found


def popularity(known: Interactions) -> SharedScores:
    """Return the logarithm of how many people chose each item, and one more."""
    counts = np.bincount(known.item, minlength=len(known.items))
    return SharedScores(np.log1p(counts).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class VectorScores:
    """Scores from vectors of users, items and attributes of one width, a row each.

    s_v = e_u . e_v + sum over accepted p of e_v . e_p - sum over rejected p that v has of
    sigmoid(e_v . e_p), which `aversions` (attributes, items) holds. Build it with `of`. Source: Deng et al. (2021), UNICORN, as released; second-hand.
    """

    table: AttributeTable
    users: FloatArray
    items: FloatArray
    attributes: FloatArray
    aversions: Csr

    @classmethod
    def of(
        cls, table: AttributeTable, users: FloatArray, items: FloatArray, attributes: FloatArray
    ) -> VectorScores:
        """Return scores by these vectors; raises ValueError unless the table has so many rows."""
        due, given = (len(table), len(table.attributes)), (len(items), len(attributes))
        if due != given:
            raise ValueError(f"there are vectors of {given} items and attributes; {due} are due")
        places = table.had_by
        product = np.einsum("nd,nd->n", attributes[row_of(places)], items[places.indices])
        felt = (1 / (1 + np.exp(-product))).astype(np.float32)
        return cls(table, users, items, attributes, with_data(places, felt))

    def at(self, beliefs: Beliefs, users: IntArray) -> FloatArray:
        candidates = beliefs.candidates
        # the product with all items, because gathering vectors for each candidate takes longer
        everything = self.wish(beliefs, users) @ self.items.T
        found = everything[row_of(candidates), candidates.indices]
        unwanted = where(beliefs.said, REJECTED)
        if unwanted.nnz:
            found = found - values_at(unwanted @ self.aversions, candidates)
        scores: FloatArray = found.astype(np.float32)
        return scores

    def wish(self, beliefs: Beliefs, users: IntArray) -> FloatArray:
        """Return (dialogues, width): e_u plus the vectors of what was accepted."""
        wish: FloatArray = self.users[users] + where(beliefs.said, ACCEPTED) @ self.attributes
        return wish


def few_attributes(table: AttributeTable) -> SharedScores:
    """Return minus the logarithm of how many attributes each item has.

    Who opens with a random attribute of his item names any one of n with the chance 1 / n: after
    that an item with few is likelier than one with many. True of this simulator, not of people.
    """
    counts = np.diff(table.has.indptr)
    return SharedScores(-np.log(np.maximum(counts, 1)).astype(np.float32))


def sharpness(scores: ItemScores, table: AttributeTable, known: Interactions) -> float:
    """Return the factor by which scores tell best what people chose: the largest likelihood.

    Of SHARPNESS, the one with the largest mean of log softmax(factor * score) at the items chosen,
    over all of the table's items. 0 says that the scores tell nothing.
    """
    best, found = -np.inf, 0.0
    totals = np.zeros(len(SHARPNESS))
    for begin in range(0, len(known.users), BATCH):
        users = np.arange(begin, min(begin + BATCH, len(known.users)))
        own = (known.user >= users[0]) & (known.user <= users[-1])
        row, item = known.user[own] - begin, known.item[own]
        every = state.begin(table, len(users))
        scored = scores.at(every, users).reshape(len(users), -1).astype(np.float64)
        for place, factor in enumerate(SHARPNESS):
            sharp = scored * factor
            top = sharp.max(axis=1, keepdims=True)
            norm = top[:, 0] + np.log(np.exp(sharp - top).sum(axis=1))
            totals[place] += (sharp[row, item] - norm[row]).sum()
    for factor, total in zip(SHARPNESS, totals.tolist(), strict=True):
        if total > best:
            best, found = total, factor
    return found

"""Searching: the nearest among texts of several kinds, ranked together. Pure, over what is loaded.

Each kind is a view: the texts that a request may find, with their vectors, words and weights.
All views are one crowd: their cosines stand in one order, and the words of all of them are
counted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.memory.flat import FlatSearch
from persona_agent.memory.lexicon import Lexicon, words_of
from persona_agent.memory.ranking import fuse
from persona_agent.types import Explanation, FloatArray

Weights: TypeAlias = "npt.NDArray[np.float64] | None"  # None: all 1
Ref: TypeAlias = tuple[int, int]  # which view, and which rank in it
Scored: TypeAlias = list[tuple[Ref, float]]

POOL = 50  # of each order, at least so many are fused


@dataclass(slots=True)
class View:
    """The first `end` ranks of one kind of text, of which those `allowed` may be found.

    `aged` and `mattering` are how much each counts by its age and by its salience. `lexicon` is
    needed for words only.
    """

    flat: FlatSearch
    lexicon: Lexicon
    end: int
    allowed: npt.NDArray[np.bool_] | None = None
    aged: Weights = None
    mattering: Weights = None

    @property
    def weights(self) -> Weights:
        """How much each rank counts in all."""
        if self.aged is None or self.mattering is None:
            return self.mattering if self.aged is None else self.aged
        return self.aged * self.mattering


class Match(NamedTuple):
    """What was found: the place of its view, its rank there, its score."""

    view: int
    rank: int
    score: float
    explanation: Explanation | None = None


def search(
    views: Sequence[View], vector: FloatArray, words: str | None, k: int, *, explain: bool
) -> list[Match]:
    """Return the best `k` of all views, best first; of equals, the earlier view and rank first.

    The score is the cosine, or with weights half of one more than that, times the weight. With
    `words` it is the fusion of the orders by cosine and by BM25, times the weight.
    """
    weights = [view.weights for view in views]
    if len(views) == 1 and words is None and not explain:  # what is mostly asked for
        (one,) = views
        found = one.flat.search(vector, k, one.end, one.allowed, weights[0])
        return [Match(0, rank, score) for rank, score in found]
    said: Scored = []
    if words is None:
        best = near = _near(views, vector, k, weights)
    else:
        pool = max(POOL, 4 * k)
        near = _near(views, vector, pool, [None] * len(views))
        said = _said(views, words, pool)
        fused = fuse([[ref for ref, _ in near], [ref for ref, _ in said]])
        for ref in fused:
            own = weights[ref[0]]
            fused[ref] *= 1.0 if own is None else float(own[ref[1]])
        best = _first(list(fused.items()), k)
    if not explain:
        return [Match(*ref, score) for ref, score in best]
    near_places = {ref: place for place, (ref, _) in enumerate(near, start=1)}
    said_places = {ref: (place, score) for place, (ref, score) in enumerate(said, start=1)}
    return [
        Match(
            *ref, score, _explained(views, vector, ref, near_places.get(ref), said_places.get(ref))
        )
        for ref, score in best
    ]


def _near(views: Sequence[View], vector: FloatArray, k: int, weights: Sequence[Weights]) -> Scored:
    found = [
        ((number, rank), score)
        for number, view in enumerate(views)
        for rank, score in view.flat.search(vector, k, view.end, view.allowed, weights[number])
    ]
    return found if len(views) == 1 else _first(found, k)


def _said(views: Sequence[View], words: str, k: int) -> Scored:
    wanted = words_of(words)
    counts = [view.lexicon.counts(wanted, view.end, view.allowed) for view in views]
    together = sum(counts[1:], start=counts[0])
    return _first(
        [
            ((number, rank), score)
            for number, view in enumerate(views)
            for rank, score in view.lexicon.search(wanted, k, view.end, view.allowed, together)
        ],
        k,
    )


def _first(scored: Scored, k: int) -> Scored:
    return sorted(scored, key=lambda one: (-one[1], one[0]))[:k]


def _explained(
    views: Sequence[View],
    vector: FloatArray,
    ref: Ref,
    near: int | None,
    said: tuple[int, float] | None,
) -> Explanation:
    view, rank = views[ref[0]], ref[1]
    return Explanation(
        view.flat.cosine(vector, rank) if view.flat.present[rank] else None,
        near,
        None if said is None else said[1],
        None if said is None else said[0],
        1.0 if view.aged is None else float(view.aged[rank]),
        1.0 if view.mattering is None else float(view.mattering[rank]),
    )

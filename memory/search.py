"""Searching: the nearest among texts of several kinds, ranked together. Pure, over what is loaded.

Each kind is a view: the texts that a request may find, with their vectors, words and weights.
All views are one crowd: their cosines stand in one order, and the words of all of them are
counted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.memory.flat import FlatSearch
from persona_agent.memory.lexicon import Counts, Lexicon, words_of
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


class _Found(NamedTuple):
    """Candidates with their scores; the nearest of them, the best by BM25, and each one's share."""

    scored: Scored
    near: Scored
    bm25: dict[Ref, float]
    shares: dict[Ref, float]


def search(
    views: Sequence[View], vector: FloatArray, words: str | None, k: int, *, explain: bool
) -> list[Match]:
    """Return the best `k` of all views, best first; of equals, the earlier view and rank first.

    The score is the cosine, or with weights half of one more than that, times the weight. With
    `words` the best by cosine and the best by BM25 are candidates, and the score is what `fuse`
    makes of the cosine and of how much of the words a text says, times the weight.
    """
    weights = [view.weights for view in views]
    if len(views) == 1 and words is None and not explain:  # what is mostly asked for
        (one,) = views
        found = one.flat.search(vector, k, one.end, one.allowed, weights[0])
        return [Match(0, rank, score) for rank, score in found]
    if words is None:
        near = _near(views, vector, k, weights)
        candidates = _Found(near, near, {}, {})
    else:
        candidates = _fused(views, vector, words, max(POOL, 4 * k), weights)
    best = _first(candidates.scored, k)
    if not explain:
        return [Match(*ref, score) for ref, score in best]
    near_places = {ref: place for place, (ref, _) in enumerate(candidates.near, start=1)}
    said_places = {ref: place for place, ref in enumerate(candidates.bm25, start=1)}
    return [
        Match(
            *ref,
            score,
            replace(
                _explained(views[ref[0]], vector, ref[1]),
                cosine_rank=near_places.get(ref),
                bm25=candidates.bm25.get(ref),
                bm25_rank=said_places.get(ref),
                share=candidates.shares.get(ref),
            ),
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


def _fused(
    views: Sequence[View], vector: FloatArray, words: str, k: int, weights: Sequence[Weights]
) -> _Found:
    """Return the `k` best by cosine and the `k` best by BM25, with the scores that `fuse` gives."""
    wanted = words_of(words)
    counts = _counts(views, wanted)
    near = _near(views, vector, k, [None] * len(views))
    bm25 = dict(_said(views, wanted, counts, k))
    scored: Scored = []
    shares: dict[Ref, float] = {}
    for number, view in enumerate(views):
        cosines = {ref[1]: cosine for ref, cosine in near if ref[0] == number}
        more = [rank for place, rank in bm25 if place == number and rank not in cosines]
        cosines.update(zip(more, view.flat.cosines(vector, more), strict=True))
        ranks = list(cosines)
        said = view.lexicon.shares(wanted, ranks, counts)
        scores = fuse(np.array(list(cosines.values())), said)
        own = weights[number]
        refs = [(number, rank) for rank in ranks]
        scored += zip(refs, (scores if own is None else scores * own[ranks]).tolist(), strict=True)
        shares.update(zip(refs, said.tolist(), strict=True))
    return _Found(scored, near, bm25, shares)


def _counts(views: Sequence[View], words: Sequence[str]) -> Counts:
    """Return the counts of all texts that may be found, together."""
    counts = [view.lexicon.counts(words, view.end, view.allowed) for view in views]
    return sum(counts[1:], start=counts[0])


def _said(views: Sequence[View], words: Sequence[str], counts: Counts, k: int) -> Scored:
    """Return the best `k` by BM25."""
    return _first(
        [
            ((number, rank), score)
            for number, view in enumerate(views)
            for rank, score in view.lexicon.search(words, k, view.end, view.allowed, counts)
        ],
        k,
    )


def _first(scored: Scored, k: int) -> Scored:
    return sorted(scored, key=lambda one: (-one[1], one[0]))[:k]


def _explained(view: View, vector: FloatArray, rank: int) -> Explanation:
    """Return what a text says for itself: its cosine and its weights."""
    (cosine,) = view.flat.cosines(vector, [rank])
    return Explanation(
        cosine if view.flat.present[rank] else None,
        decay=1.0 if view.aged is None else float(view.aged[rank]),
        salience=1.0 if view.mattering is None else float(view.mattering[rank]),
    )

"""From a model's scores to rankings: seen items out, filters, the best k; the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from persona_agent.recommend.data import BoolArray, Histories, HistoryLike, as_histories
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.recommend.port import Filter, Ranking
from persona_agent.types import FloatArray

BATCH_BYTES = 64_000_000  # scores of one batch: larger ones leave the caches, and gain nothing


def rank(
    score: Callable[[Histories], FloatArray],
    items: IdMap,
    histories: HistoryLike,
    k: int,
    *,
    allow: Filter | None = None,
    deny: Filter | None = None,
    seen: bool = False,
    batch_bytes: int = BATCH_BYTES,
) -> Ranking:
    """Return the best `k` items of each row by `score`, as `Recommender.recommend` promises.

    `score` returns a fresh array (rows, items) for a batch of histories, which is written to.
    """
    people = as_histories(histories, items)
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    width = min(k, len(items))
    positions = np.full((len(people), width), -1, np.int64)
    scores = np.full((len(people), width), -np.inf, np.float32)
    allowed, denied = _filter(allow, people), _filter(deny, people)
    for rows in _batches(people, batch_bytes):
        batch = people.take(rows)
        table = score(batch)
        if not seen:
            table[_places(batch)] = -np.inf
        _mask(table, denied, rows, keep=False)
        _mask(table, allowed, rows, keep=True)
        positions[rows], scores[rows] = top_k(table, width)
    return Ranking(items, positions, scores)


def score_items(
    score: Callable[[Histories], FloatArray],
    items: IdMap,
    histories: HistoryLike,
    wanted: Sequence[str] | None,
) -> FloatArray:
    """Return the scores of the wanted items (None: all), as `Recommender.score` promises."""
    people = as_histories(histories, items)
    columns = np.arange(len(items)) if wanted is None else items.positions(wanted)
    found = np.empty((len(people), len(columns)), np.float32)
    for rows in _batches(people, BATCH_BYTES):
        table = score(people.take(rows))
        found[rows] = table if wanted is None else table[:, columns]
    return found


def top_k(scores: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return positions and scores, both (rows, k), of the best `k` of each row, best first.

    Equal scores: the lower position first. Places of score -inf get position -1.
    `k` is at most the number of columns. Raises ValueError if a row's best contain NaN.

    >>> top_k(np.array([[1, 3, 3, -np.inf]], np.float32), 4)[0]
    array([[ 1,  2,  0, -1]])
    """
    rows, columns = scores.shape
    if k == 0 or rows == 0:
        return np.empty((rows, k), np.int64), np.empty((rows, k), np.float32)
    if k < columns:
        picked = np.argpartition(scores, columns - k, axis=1)[:, columns - k :]
        edge = np.take_along_axis(scores, picked, axis=1).min(axis=1, keepdims=True)
        # argpartition picks any of the items that tie at the edge; we want the first of them.
        uneven = ((scores >= edge).sum(axis=1) > k) & ~np.isneginf(edge[:, 0])
        for row in np.flatnonzero(uneven).tolist():
            tied = np.flatnonzero(scores[row] >= edge[row])
            first = np.argsort(-scores[row, tied], kind="stable")[:k]
            picked[row, :] = tied[first]
        picked.sort(axis=1)
    else:
        picked = np.broadcast_to(np.arange(columns), (rows, columns))
    best = np.take_along_axis(scores, picked, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    positions = np.take_along_axis(picked, order, axis=1).astype(np.int64)
    best = np.take_along_axis(best, order, axis=1)
    if np.isnan(best).any():  # NaN sorts as the largest number, so that none can hide
        row = int(np.flatnonzero(np.isnan(best).any(axis=1))[0])
        raise ValueError(f"row {row} has scores that are NaN: the model has diverged")
    positions[np.isneginf(best)] = -1
    return positions, best.astype(np.float32)


def _filter(given: Filter | None, people: Histories) -> Histories | BoolArray | None:
    """Return a filter as a mask of items for all rows, or as one history a row."""
    if given is None:
        return None
    if isinstance(given, Histories):
        if len(given) != len(people):
            raise ValueError(f"the filter has {len(given)} rows for {len(people)} histories")
        return given.on(people.items)
    if isinstance(given, str):
        raise TypeError(f"a filter is a list of item ids, not the text {given!r}")
    mask = np.zeros(len(people.items), bool)
    mask[people.items.positions(given)] = True
    return mask


def _mask(
    table: FloatArray, found: Histories | BoolArray | None, rows: slice, *, keep: bool
) -> None:
    """Set to -inf what the filter names, or if `keep` what it does not name."""
    if isinstance(found, Histories):
        named = _places(found.take(rows))
        if keep:
            kept = table[named]
            table[:] = -np.inf
            table[named] = kept
        else:
            table[named] = -np.inf
    elif found is not None:
        table[:, ~found if keep else found] = -np.inf


def _places(histories: Histories) -> tuple[IntArray, IntArray]:
    """Return the rows and columns of all items in the histories."""
    matrix = histories.matrix
    return np.repeat(np.arange(len(histories)), np.diff(matrix.indptr)), matrix.indices


def _batches(people: Histories, size: int) -> Iterator[slice]:
    """Yield slices of rows whose scores take at most `size` bytes, and one row at least."""
    rows = max(1, size // (4 * max(1, len(people.items))))
    return (slice(begin, begin + rows) for begin in range(0, len(people), rows))

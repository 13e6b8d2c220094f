"""From a model's scores to rankings: seen items out, filters, the best k; the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from persona_agent.errors import Diverged
from persona_agent.recommend.data import BoolArray, Histories, HistoryLike, as_histories
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.recommend.port import Filter, Ranking
from persona_agent.types import FloatArray

BATCH_BYTES = 16_000_000  # scores of one batch: larger ones leave the caches, and gain nothing
BLOCKS = 256  # at least so many, each of which its maximum stands for
BLOCKS_PER_PLACE = 4  # with fewer blocks a place, many scores reach the floor
TIES = 16  # rows with so many times k candidates are thinned before they are sorted


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
    `k` is at most the number of columns. Raises Diverged if a row's best contain NaN.

    >>> top_k(np.array([[1, 3, 3, -np.inf]], np.float32), 4)[0]
    array([[ 1,  2,  0, -1]])
    """
    rows, columns = scores.shape
    positions = np.full((rows, k), -1, np.int64)
    best = np.full((rows, k), -np.inf, np.float32)
    if not scores.size:
        return positions, best
    if not 1 <= k <= columns:
        raise ValueError(f"k is {k}; there are {columns} columns, so 1 to {columns} is due")
    floor = _floor(scores, k)
    kept = scores >= np.maximum(floor, np.finfo(np.float32).min)  # never -inf
    for row in np.flatnonzero(np.count_nonzero(kept, axis=1) > TIES * k).tolist():
        _drop_late_ties(kept[row], scores[row], k)
    # nonzero of a table of two dimensions takes ten times as long
    owner, column = np.divmod(np.flatnonzero(kept), columns)
    values = scores[owner, column]
    order = np.lexsort((-values, owner))  # stable, and columns ascend: ties keep their order
    starts = np.searchsorted(owner, np.arange(rows))
    place = np.arange(len(owner)) - starts[owner]
    first = place < k
    positions[owner[first], place[first]] = column[order][first]
    best[owner[first], place[first]] = values[order][first]
    return positions, best


def _floor(scores: FloatArray, k: int) -> FloatArray:
    """Return (rows, 1): a score that at least `k` of the row reach, and few more.

    It is the k-th largest of the maxima of blocks, which is cheaper than the k-th largest of all.
    The product and this take a third of the time of FAISS's exact search (25,000 x 64, one core).
    """
    rows, columns = scores.shape
    width = max(1, columns // max(BLOCKS, BLOCKS_PER_PLACE * k))
    count = columns // width
    # A block is every count-th column: numpy takes maxima across rows of memory at full speed.
    folded = scores[:, : count * width].reshape(rows, width, count)
    maxima = scores if width == 1 else np.hstack([folded.max(axis=1), scores[:, count * width :]])
    if np.isnan(maxima).any():  # a maximum of NaN is NaN, so that none can hide
        row = int(np.flatnonzero(np.isnan(maxima).any(axis=1))[0])
        raise Diverged(f"row {row} has scores that are NaN: the model has diverged")
    at = maxima.shape[1] - k
    edge: FloatArray = np.partition(maxima, at, axis=1)[:, [at]]
    return edge


def _drop_late_ties(kept: BoolArray, scores: FloatArray, k: int) -> None:
    """Leave in `kept` only the best `k` of one row, in which very many are equal."""
    column = np.flatnonzero(kept)
    values = scores[column]
    edge = np.partition(values, len(values) - k)[len(values) - k]
    ties = np.flatnonzero(values == edge)
    above = int((values > edge).sum())
    kept[column[values < edge]] = False
    kept[column[ties[k - above :]]] = False


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

"""Metrics of rankings, one number a user, without loops over users.

Shapes: `hits` (users, k) is True where a recommended item was to be found, best first; `wanted`
(users,) is how many were to be found, at least one; `positions` (users, k) are item positions,
-1 where a list has ended. All results are float64 arrays of shape (users,), higher is better
unless a docstring says otherwise.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.data import BoolArray, Csr, Histories
from persona_agent.recommend.ids import IntArray

PerUser: TypeAlias = npt.NDArray[np.float64]

SMOOTHING = 0.01


def hits(positions: IntArray, wanted: Histories) -> BoolArray:
    """Return (users, k): whether the item at that place was to be found."""
    rows, columns = wanted.matrix.shape
    owner = np.repeat(np.arange(rows, dtype=np.int64), np.diff(wanted.matrix.indptr))
    keys = owner * columns + wanted.matrix.indices  # ascending: CSR rows are sorted
    asked = np.arange(rows)[:, None] * columns + positions
    found: BoolArray = np.isin(asked, keys, kind="sort") & (positions >= 0)
    return found


def ndcg(hits: BoolArray, wanted: IntArray) -> PerUser:
    """Return DCG over the best DCG that k places allow: sum of 1/log2(rank + 1), ideal min(k, n).

    Source: Järvelin and Kekäläinen (2002), binary gains.
    """
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.append(0, np.cumsum(discounts))[np.minimum(wanted, hits.shape[1])]
    return _of(hits @ discounts, ideal)


def recall(hits: BoolArray, wanted: IntArray) -> PerUser:
    """Return the share of the wanted items that were found."""
    return _of(hits.sum(axis=1), wanted)


def recall_min(hits: BoolArray, wanted: IntArray) -> PerUser:
    """Return found items over min(k, wanted), so that 1 can be reached (Liang et al. 2018)."""
    return _of(hits.sum(axis=1), np.minimum(wanted, hits.shape[1]))


def hit(hits: BoolArray, wanted: IntArray) -> PerUser:
    """Return 1 if any wanted item was found, else 0."""
    return _of(hits.any(axis=1), 1)


def mrr(hits: BoolArray, wanted: IntArray) -> PerUser:
    """Return 1 / rank of the first item found, 0 if there is none."""
    return _of(hits.any(axis=1), hits.argmax(axis=1) + 1)


def average_precision(hits: BoolArray, wanted: IntArray) -> PerUser:
    """Return the sum over hits of precision at their rank, over min(k, wanted); its mean is MAP."""
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return _of((precision * hits).sum(axis=1), np.minimum(wanted, hits.shape[1]))


ACCURACY = {
    "ndcg": ndcg,
    "recall": recall,
    "recall_min": recall_min,
    "hit": hit,
    "mrr": mrr,
    "map": average_precision,
}


def novelty(positions: IntArray, counts: IntArray, users: int) -> PerUser:
    """Return the mean of -log2(share of training users who chose the item) over each list.

    An item that nobody chose counts as if one had. An empty list has novelty 0.
    Source: Zhou et al. (2010), mean self-information.
    """
    bits = -np.log2(np.maximum(counts, 1) / max(users, 1))
    there = positions >= 0
    return _of((bits[positions] * there).sum(axis=1), there.sum(axis=1))


def coverage(positions: IntArray, items: int) -> float:
    """Return the share of all items that are recommended to anybody."""
    return len(np.unique(positions[positions >= 0])) / items if items else 0.0


def shares(positions: IntArray, features: Csr) -> PerUser:
    """Return (users, features): the mean of the features of each list's items.

    `features` is CSR (items, features) whose rows sum to 1 or are empty, such as genres; items
    with empty rows are left out of the mean. A list without any gives zeros.
    """
    rows, columns = np.nonzero(positions >= 0)
    owner = features[positions[rows, columns]]
    summed = np.zeros((len(positions), features.shape[1]))
    np.add.at(
        summed,
        (np.repeat(rows, np.diff(owner.indptr)), owner.indices),
        owner.data.astype(np.float64),
    )
    return _of(summed, summed.sum(axis=1, keepdims=True))


def history_shares(histories: Histories, features: Csr) -> PerUser:
    """Return (users, features): the mean of the features of each history, as `shares`."""
    summed = (histories.matrix @ features).toarray().astype(np.float64)
    return _of(summed, summed.sum(axis=1, keepdims=True))


def calibration(history: PerUser, listed: PerUser, smoothing: float = SMOOTHING) -> PerUser:
    """Return KL(history || smoothed list) in nats, lower is better; NaN if either is empty.

    The list's shares are q~ = (1 - smoothing) q + smoothing p. Source: Steck (2018).
    """
    blurred = (1 - smoothing) * listed + smoothing * history
    ratio = np.divide(history, blurred, out=np.ones_like(history), where=history > 0)
    divergence = (history * np.log(ratio)).sum(axis=1)
    return np.where(_both(history, listed), np.maximum(divergence, 0), np.nan)


def taste_distance(history: PerUser, listed: PerUser) -> PerUser:
    """Return the Jensen-Shannon divergence in bits, 0 to 1, lower is better; NaN if one is empty.

    With shares of personas it is the taste-distribution distance of persona models (Barkan et al.
    2020 name it; the formula is ours), with shares of genres its twin for any model.
    """
    middle = (history + listed) / 2
    halves = [
        (one * np.log2(np.divide(one, middle, out=np.ones_like(one), where=one > 0))).sum(axis=1)
        for one in (history, listed)
    ]
    return np.where(_both(history, listed), np.clip((halves[0] + halves[1]) / 2, 0, 1), np.nan)


def entropy(distribution: PerUser) -> PerUser:
    """Return the Shannon entropy of each row in bits; a row of zeros has 0."""
    logs = np.log2(distribution, out=np.zeros_like(distribution), where=distribution > 0)
    bits: PerUser = -(distribution * logs).sum(axis=1) + 0.0  # not -0
    return bits


def _both(one: PerUser, other: PerUser) -> BoolArray:
    both: BoolArray = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
    return both


def _of(part: npt.ArrayLike, whole: npt.ArrayLike) -> PerUser:
    """Return part / whole, and 0 where there is no whole."""
    top, bottom = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    share: PerUser = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
    return share

"""Ranking: orders fused into one, and how time takes weight away. Pure functions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=Hashable)

RANK_CONSTANT = 60  # Cormack, Clarke and Büttcher (2009)


def fuse(orders: Sequence[Sequence[T]]) -> dict[T, float]:
    """Return the reciprocal rank fusion of orders, each best first: what is high in many is high.

    >>> fuse([[7, 8], [8]]) == {7: 1 / 61, 8: 1 / 62 + 1 / 61}
    True
    """
    scores: dict[T, float] = {}
    for order in orders:
        for place, one in enumerate(order, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (RANK_CONSTANT + place)
    return scores


def decay(age: npt.NDArray[np.float64], half_life: float) -> npt.NDArray[np.float64]:
    """Return weights from 1 for age 0, halving every `half_life`, both in seconds.

    Negative ages count as zero. Raises ValueError unless `half_life` is above 0.

    >>> decay(np.array([-1.0, 0.0, 60.0, 120.0]), 60.0).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """
    if not half_life > 0:
        raise ValueError(f"half_life is {half_life}; it must be above 0")
    weights: npt.NDArray[np.float64] = 0.5 ** (np.maximum(age, 0) / half_life)
    return weights

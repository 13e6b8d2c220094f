"""Ranking: meaning and words fused into one score, and how time takes weight away. Pure functions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DECIMALS = 6  # of a score: vectors are float32, what follows is noise
WORDS = 0.21  # of the score; docs/results/recall.md says how it was found


def fuse(
    cosines: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return one score a text, from 0 to 1: how near in meaning it is, and how much of a query it says.

    `cosines` are from -1 to 1, `shares` from 0 to 1, see `Lexicon.shares`. Of a query whose rare words
    nobody used no text says much, and the order is that of meaning. Fused by ranks, the best by
    words counts as much as ever, though it share nothing but "can you".

    Source: Bruch, Gai and Ingber (2023), convex combination of scores normalised by their
    theoretical bounds. There words are BM25 over its maximum; the share is ours.

    >>> fuse(np.array([-1.0, 1.0]), np.array([0.0, 1.0])).tolist()
    [0.0, 1.0]
    """
    scores: npt.NDArray[np.float64] = (1 - WORDS) * (1 + cosines) / 2 + WORDS * shares
    return scores.round(DECIMALS)


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

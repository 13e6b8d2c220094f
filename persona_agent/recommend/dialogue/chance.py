"""Chance that depends on what it is about, and not on the order in which it is asked."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.ids import IntArray

ODD = np.uint64(0x9E3779B97F4A7C15)


def uniform(what: str, first: IntArray, second: IntArray) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1), one for each pair of integers: the same pair, the same number.

    `what` tells uses apart. The mixer is splitmix64's (Steele, Lea and Flood, 2014).

    >>> pair = np.array([3, 3]), np.array([8, 9])
    >>> bool((uniform("a", *pair) == uniform("a", *pair)).all()), len(set(uniform("a", *pair)))
    (True, 2)
    """
    found: npt.NDArray[np.float64] = (mixed(what, first, second) >> np.uint64(11)).astype(
        np.float64
    ) * 2.0**-53
    return found


def mixed(what: str, first: IntArray, second: IntArray) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each pair of integers, as if drawn by chance."""
    salt = np.uint64(int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "little"))
    with np.errstate(over="ignore"):  # it wraps round by design
        once = _mix(first.astype(np.uint64) * ODD + salt)
        return _mix(once + second.astype(np.uint64) * ODD)


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

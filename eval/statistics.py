"""Statistics of paired comparisons over users: the unit that varies is the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persona_agent.types import Record


@dataclass(frozen=True, slots=True)
class Interval(Record):
    """A mean with its confidence interval, over `users` users and `count` observations."""

    mean: float
    low: float
    high: float
    users: int
    count: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def clustered_mean(
    by_user: Mapping[str, Sequence[float]],
    *,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return the mean of all observations with a bootstrap interval clustered by user.

    Users are drawn with replacement, each with all of its observations (Cameron, Gelbach and
    Miller 2008; percentile interval). For a paired comparison give each observation's difference.
    Raises ValueError without observations, or for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must be between 0 and 1")
    rows = {user: np.asarray(values, float) for user, values in by_user.items() if len(values)}
    if not rows:
        raise ValueError("there are no observations")
    sums = np.array([values.sum() for values in rows.values()])
    counts = np.array([len(values) for values in rows.values()])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(rows), size=(draws, len(rows)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        float(sums.sum() / counts.sum()), float(low), float(high), len(rows), int(counts.sum())
    )


def paired(
    new: Mapping[str, Sequence[float]], old: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Return new minus old for each user's observations.

    Raises ValueError if the two do not hold the same users with the same numbers of observations.
    """
    if new.keys() != old.keys():
        raise ValueError(f"users differ: {sorted(new.keys() ^ old.keys())}")
    return {
        user: [b - a for a, b in zip(old[user], new[user], strict=True)] for user in sorted(new)
    }


def share_worse(
    new: Mapping[str, Sequence[float]], old: Mapping[str, Sequence[float]], tolerance: float = 1e-9
) -> float:
    """Return the share of users whose mean falls by more than `tolerance`; higher is better."""
    means = [float(np.mean(values)) for values in paired(new, old).values() if values]
    return sum(mean < -tolerance for mean in means) / len(means) if means else 0.0

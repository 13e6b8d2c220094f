"""Statistics of paired comparisons over users: the unit that varies is the user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from persona_agent.gate import t_quantile
from persona_agent.types import Record

CHUNK = 500  # resamples drawn at once: 500 of 6,000 users take 24 MB


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


@dataclass(frozen=True, slots=True)
class Contrast(Record):
    """A paired difference over users: its interval, two-sided p, and what could have been seen.

    `detectable` is the smallest true difference that this many users show with a chance of 80%
    at a two-sided level of 5%. `p_holm` is p after `holm`, and p itself before.
    """

    interval: Interval
    p: float
    deviation: float
    detectable: float
    p_holm: float

    def __str__(self) -> str:
        return f"{self.interval}, p {self.p_holm:.2g}, detectable {self.detectable:.3f}"


def contrast(
    differences: npt.ArrayLike,
    users: Sequence[str] | npt.NDArray[np.object_] | None = None,
    *,
    draws: int = 4000,
    seed: int = 0,
    expand: bool = False,
) -> Contrast:
    """Return the test of whether per-user differences are zero on average.

    `users` says whose each difference is where one user has several, as over splits and seeds:
    a user's differences are averaged first, since the user is the unit. The interval is a
    bootstrap over users (percentile, 95%), p is of a sign-flip test (add-one, so never 0). With
    `expand` the percentiles are those that make the interval of few users as wide as it has to be
    (Hesterberg 2015, section 4.3): without, that of 20 users covers 93% of the time.
    Raises ValueError without differences, for NaN, or for columns of unequal length.
    """
    means = by_user(differences, users)
    rng = np.random.default_rng(seed)
    drawn = [
        means[rng.integers(0, len(means), (min(CHUNK, draws - begin), len(means)))].mean(axis=1)
        for begin in range(0, draws, CHUNK)
    ]
    tail = _expanded(len(means)) if expand and len(means) > 1 else 0.025
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    mean = float(means.mean())
    centre = Interval(mean, float(low), float(high), len(means), np.size(differences))
    deviation = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    p = sign_flip(means, draws=draws, seed=seed)
    return Contrast(centre, p, deviation, detectable(deviation, len(means)), p)


def _expanded(users: int) -> float:
    """Return the tail that a percentile interval of so many users needs to cover 95%."""
    wide = math.sqrt(users / (users - 1)) * t_quantile(0.975, users - 1)
    return NormalDist().cdf(-wide)


def sign_flip(differences: npt.ArrayLike, *, draws: int = 4000, seed: int = 0) -> float:
    """Return the two-sided p of a paired permutation test: signs of differences flipped.

    p = (1 + flips at least as extreme) / (1 + draws). No assumption but that a difference is as
    likely to be turned round if nothing differs.
    """
    values = by_user(differences, None)
    rng = np.random.default_rng(seed)
    seen, extreme, limit = abs(values.sum()), 0, abs(values.sum()) * (1 - 1e-12)
    for begin in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - begin)
        signs = 2.0 * rng.integers(0, 2, (rows, len(values))) - 1
        extreme += int((abs(signs @ values) >= limit).sum())
    return (1 + extreme) / (1 + draws) if seen else 1.0


def paired_t(differences: npt.ArrayLike) -> float:
    """Return the two-sided p of the paired t-test, by the normal curve (30 users or more).

    Raises ValueError for fewer: use `sign_flip`.
    """
    values = by_user(differences, None)
    if len(values) < 30:
        raise ValueError(f"there are {len(values)} differences; below 30 use sign_flip")
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    if not error:
        return 0.0 if values.any() else 1.0
    return 2 * NormalDist().cdf(-abs(float(values.mean())) / error)


def by_user(
    differences: npt.ArrayLike, users: Sequence[str] | npt.NDArray[np.object_] | None
) -> npt.NDArray[np.float64]:
    """Return one mean a user, in the order of their names; without `users` each row is one."""
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"differences have shape {values.shape}; a list with one or more is due")
    if np.isnan(values).any():
        raise ValueError(
            f"{int(np.isnan(values).sum())} differences are NaN; leave those users out"
        )
    if users is None:
        return values
    if len(users) != len(values):
        raise ValueError(f"there are {len(values)} differences and {len(users)} users")
    _, owner = np.unique(np.asarray(users, object), return_inverse=True)
    means: npt.NDArray[np.float64] = np.bincount(owner, values) / np.bincount(owner)
    return means


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for having made several tests (Holm 1979), in the order given.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected, highest = {}, 0.0
    for rank, name in enumerate(sorted(ps, key=lambda one: ps[one])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in ps}


def with_holm(contrasts: Mapping[str, Contrast]) -> dict[str, Contrast]:
    """Return the contrasts of one family with corrected p, and what they could detect so."""
    corrected = holm({name: one.p for name, one in contrasts.items()})
    return {
        name: Contrast(
            one.interval,
            one.p,
            one.deviation,
            detectable(one.deviation, one.interval.users, tests=len(contrasts)),
            corrected[name],
        )
        for name, one in contrasts.items()
    }


def detectable(deviation: float, users: int, *, tests: int = 1, power: float = 0.8) -> float:
    """Return the smallest mean difference that is found with this power at a two-sided 5%.

    (z[1 - .05 / 2 tests] + z[power]) deviation / sqrt(users): 2.80 SD / sqrt(n) for one test,
    3.53 for the strictest step of Holm over seven.
    """
    if users < 1 or tests < 1 or not 0 < power < 1:
        raise ValueError(f"users is {users}, tests {tests} and power {power}; 1, 1 and (0, 1)")
    z = NormalDist().inv_cdf
    return (z(1 - 0.05 / (2 * tests)) + z(power)) * deviation / math.sqrt(users)


def interaction(
    both: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, neither: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return each user's (both - first) - (second - neither): above 0, the two factors help more
    together than the sum of what each helps alone.

    Raises ValueError unless the four have the same users, in shape at least.
    """
    cells = [np.asarray(one, np.float64) for one in (both, first, second, neither)]
    if len({one.shape for one in cells}) != 1:
        raise ValueError(f"the four cells have shapes {[one.shape for one in cells]}; one is due")
    return (cells[0] - cells[1]) - (cells[2] - cells[3])


@dataclass(frozen=True, slots=True)
class Trend(Record):
    """How an effect changes with something about the user: the slope of a straight line.

    `interval` is of the slope, by a bootstrap over users (percentile, 95%); `p` is two-sided, of a
    permutation of users.
    """

    interval: Interval
    p: float

    def __str__(self) -> str:
        return f"{self.interval}, p {self.p:.2g}"


def trend(
    effects: npt.ArrayLike, against: npt.ArrayLike, *, draws: int = 4000, seed: int = 0
) -> Trend:
    """Return the least-squares slope of users' effects against a number of each, a row a user.

    Raises ValueError for columns of unequal length, for NaN, or if the number is the same for all.
    """
    y, x = by_user(effects, None), by_user(against, None)
    if len(x) != len(y):
        raise ValueError(f"there are {len(y)} effects and {len(x)} numbers; one a user is due")
    if len(x) < 3 or not np.ptp(x) > 0:
        raise ValueError("a slope needs three users or more that differ")
    rng = np.random.default_rng(seed)
    slopes, flips = [], 0
    slope = float(_slope(x[None], y[None])[0])
    for begin in range(0, draws, CHUNK):
        rows = rng.integers(0, len(x), (min(CHUNK, draws - begin), len(x)))
        slopes.append(_slope(x[rows], y[rows]))
        shuffled = rng.permuted(np.broadcast_to(y, rows.shape), axis=1)
        flips += int((abs(_slope(np.broadcast_to(x, rows.shape), shuffled)) >= abs(slope)).sum())
    low, high = np.nanquantile(np.concatenate(slopes), [0.025, 0.975])
    interval = Interval(slope, float(low), float(high), len(x), len(x))
    return Trend(interval, (1 + flips) / (1 + draws))


def _slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the slope of each row of y against x, NaN where all x of a row are equal."""
    centred = x - x.mean(axis=1, keepdims=True)
    squares = (centred**2).sum(axis=1)
    found: npt.NDArray[np.float64] = np.divide(
        (centred * y).sum(axis=1), squares, out=np.full(len(x), np.nan), where=squares > 0
    )
    return found

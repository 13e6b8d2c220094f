"""The gate: a new persona is accepted only if it does better on interactions it has not seen.

Old and new are compared pairwise on the same held-out interactions of the same user. The score is
the log-likelihood of the real outcome where the engine gives it (dense, needs no decoding), else
the task's metric. The margin is that of a one-sided paired t-test whose error `risk` is shared by
all candidates ever tried on these interactions (Bonferroni): trying many finds lucky ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Literal, TypeAlias

from persona_agent.types import Record

Measure: TypeAlias = Literal["likelihood", "metric"]


@dataclass(frozen=True, slots=True)
class Scores(Record):
    """One persona on the held-out interactions: the metric of each, and the log-likelihood of
    each real outcome, empty where the engine gives none."""

    metric: tuple[float, ...]
    loglik: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """What the gate says of one candidate, in units of its measure per interaction."""

    accepted: bool
    measure: Measure
    gain: float
    margin: float
    metric_gain: float
    tried: int
    reason: str


def judge(old: Scores, new: Scores, *, tried: int, risk: float = 0.05) -> Verdict:
    """Return whether `new` beats `old` by the margin, `tried` candidates having been compared.

    The metric may not fall by more than its own standard error either, where likelihood decides.
    Raises ValueError for scores of different lengths, fewer than two, or a risk outside (0, .5).
    """
    if len(old.metric) != len(new.metric) or len(old.loglik) != len(new.loglik):
        raise ValueError(
            f"scores do not pair: {len(old.metric)} and {len(new.metric)} metrics, "
            f"{len(old.loglik)} and {len(new.loglik)} likelihoods"
        )
    if len(old.metric) < 2:
        raise ValueError(f"{len(old.metric)} held-out interactions; the gate needs 2 or more")
    if not 0 < risk < 0.5:
        raise ValueError(f"risk is {risk}; it must be above 0 and below 0.5")
    if tried < 1:
        raise ValueError(f"tried is {tried}; it counts this candidate, so it is at least 1")
    metric = [b - a for a, b in zip(old.metric, new.metric, strict=True)]
    measure: Measure = "likelihood" if old.loglik else "metric"
    gains = [b - a for a, b in zip(old.loglik, new.loglik, strict=True)] or metric
    gain, metric_gain = fmean(gains), fmean(metric)
    quantile = t_quantile(1 - risk / tried, len(gains) - 1)
    margin = quantile * standard_error(gains)
    if gain <= max(margin, 0.0):
        reason = f"gain {gain:+.3f} is within the margin of {margin:.3f}"
    elif metric_gain < -standard_error(metric):
        reason = f"the likelihood gains {gain:+.3f}, but the metric falls by {-metric_gain:.3f}"
    else:
        reason = f"gain {gain:+.3f} exceeds the margin of {margin:.3f}"
        return Verdict(True, measure, gain, margin, metric_gain, tried, reason)
    return Verdict(False, measure, gain, margin, metric_gain, tried, reason)


def standard_error(differences: Sequence[float]) -> float:
    """Return the standard error of the mean of two or more differences."""
    return stdev(differences) / math.sqrt(len(differences))


def t_quantile(p: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution at `p` in (0, 1).

    Exact for 1 and 2 degrees of freedom, else the expansion of Abramowitz and Stegun 26.7.5,
    whose error is below 2% for p <= .99 from 4 degrees on (a test compares with tables).

    >>> round(t_quantile(0.95, 9), 2)
    1.83
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom are {freedom}; at least 1 is needed")
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom ** (i + 1) for i, term in enumerate(terms))

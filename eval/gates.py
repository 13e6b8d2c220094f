"""How often does an accepted persona make a user worse? A simulation in which the truth is known.

A user rates things from 1 to 5, and things have attributes. Each candidate persona claims that the
user rates one attribute so much above or below the average; the claim is what a few earlier
ratings said, so that it may be right, exaggerated or wrong. A model believes what it is told: its
prediction shifts by the claim. The gate is the real one (`gate.judge`), anchors included. Whom an
accepted persona makes worse is computed exactly, from what the user would do in the long run.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.gate import Scores, judge
from persona_agent.types import Record

Measure: TypeAlias = Literal["likelihood", "metric", "none"]
Kind: TypeAlias = Literal["rating", "choice"]
Floats: TypeAlias = npt.NDArray[np.float64]

STARS = np.arange(1.0, 6.0)
# above it an anchor is right: within half a star, or the star itself, as in `task.is_right`
RIGHT: dict[Kind, float] = {"rating": -0.5, "choice": 0.5}


@dataclass(frozen=True, slots=True)
class Crowd(Record):
    """What the simulated users are like, in stars.

    `tasteful` is the share of attributes about which a user feels anything, by `taste` (standard
    deviation); a claim rests on `earlier` ratings with the attribute. `spread` is that of ratings
    around what a user feels, `believed` what the model takes it for. With `drift` feelings change
    between the ratings that judge and the later ones. With `mood` the first candidate claims that
    the user is more generous or stricter than before, which held while it was judged and does not
    last. The metric of `rating` is minus the absolute error, that of `choice` whether the
    likeliest star was given.
    """

    kind: Kind = "rating"
    candidates: int = 3
    tasteful: float = 0.5
    taste: float = 0.6
    earlier: int = 10
    spread: float = 1.0
    believed: float = 1.1
    prevalence: float = 0.4
    drift: float = 0.0
    mood: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell(Record):
    """One gate on one crowd: what it accepted, and what that did in the long run.

    `worse` is the share of all users whose later ratings are predicted worse by the metric,
    `worse_likelihood` by the log-likelihood; `noticeably` by more than .02 of the metric. `gain` is
    the metric's mean change over all users, and `attained` its share of what taking each user's
    truly best candidate would bring. `accepted` is the share of users whose persona changed.
    """

    measure: Measure
    held_out: int
    risk: float
    users: int
    accepted: float
    worse: float
    worse_likelihood: float
    noticeably: float
    gain: float
    attained: float

    @property
    def worse_of_accepted(self) -> float:
        """The share of those whose persona changed."""
        return self.worse / self.accepted if self.accepted else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """Simulated users: the log-likelihood and the metric of each rating under each candidate.

    Both have the shape (users, candidates, ratings, 2): before and after the candidate. `truth` are
    the long-run changes, of shape (users, candidates, 2): of log-likelihood and of metric.
    """

    crowd: Crowd
    loglik: Floats
    metric: Floats
    truth: Floats


def simulate(crowd: Crowd, users: int, ratings: int, seed: int) -> Users:
    """Return simulated users, with `ratings` ratings each that may judge a candidate.

    The ratings are the same for all candidates of a user, as held-out interactions are.
    """
    rng = np.random.default_rng(seed)
    some = (users, crowd.candidates)
    taste = rng.normal(0, crowd.taste, some) * (rng.random(some) < crowd.tasteful)
    later = taste + rng.normal(0, crowd.drift, some) * (taste != 0)
    often = np.full(some, crowd.prevalence)
    if crowd.mood:
        taste[:, 0], later[:, 0], often[:, 0] = rng.normal(0, crowd.mood, users), 0.0, 1.0
    claim = taste + rng.normal(0, crowd.spread / np.sqrt(crowd.earlier), some)
    mean = rng.normal(3.5, 0.4, (users, 1))
    has = rng.random((*some, ratings)) < often[..., None]
    feels = mean + np.einsum("uc,ucr->ur", taste, has)  # all that a user feels adds up
    actual = _draw(_spread_out(feels, crowd.spread), rng)
    before = np.broadcast_to(mean[:, :, None], has.shape)
    loglik, metric = [], []
    for centre in (before, before + claim[:, :, None] * has):
        told = _spread_out(centre, crowd.believed)
        loglik.append(np.log(np.take_along_axis(told, actual[:, None, :, None], 3)[..., 0]))
        gains = _metric(crowd, told)
        metric.append(np.take_along_axis(gains, actual[:, None, :, None], 3)[..., 0])
    return Users(
        crowd,
        np.stack(loglik, axis=-1),
        np.stack(metric, axis=-1),
        _truth(crowd, mean, later, claim, often),
    )


def gate_users(
    users: Users, measure: Measure, held_out: int, risk: float, anchors: int = 4
) -> npt.NDArray[np.int64]:
    """Return the candidate that each user's gate accepts; -1 for none.

    The last ratings are held out, those before them are anchors. Without a measure there is no
    gate: the last candidate is taken, as PersonaAgent takes its rewrite.
    """
    count, candidates = users.loglik.shape[:2]
    if measure == "none":
        return np.full(count, candidates - 1)
    held = slice(-held_out, None)
    anchor = slice(-held_out - anchors, -held_out)
    right = np.greater(users.metric[:, :, anchor], RIGHT[users.crowd.kind])
    regress = np.any(right[..., 0] & ~right[..., 1], axis=2)
    chosen = np.full(count, -1)
    for user in range(count):
        verdicts = [
            judge(
                _scores(users, user, one, held, 0, measure),
                _scores(users, user, one, held, 1, measure),
                tried=candidates,
                risk=risk,
            )
            for one in range(candidates)
        ]
        passing = [i for i, one in enumerate(verdicts) if one.accepted and not regress[user, i]]
        if passing:
            chosen[user] = max(passing, key=lambda i: verdicts[i].gain)
    return chosen


def cell(users: Users, measure: Measure, held_out: int, risk: float) -> Cell:
    """Return what one gate does to these users."""
    chosen = gate_users(users, measure, held_out, risk)
    count = len(chosen)
    change = np.where(
        chosen[:, None] >= 0, users.truth[np.arange(count), np.maximum(chosen, 0)], 0.0
    )
    best = np.maximum(users.truth[:, :, 1].max(axis=1), 0.0).mean()
    gain = float(change[:, 1].mean())
    return Cell(
        measure,
        held_out,
        risk,
        count,
        accepted=float((chosen >= 0).mean()),
        worse=float((change[:, 1] < -1e-9).mean()),
        worse_likelihood=float((change[:, 0] < -1e-9).mean()),
        noticeably=float((change[:, 1] < -0.02).mean()),
        gain=gain,
        attained=gain / best if best else 0.0,
    )


def study(
    crowd: Crowd,
    *,
    users: int = 2000,
    held_out: Sequence[int] = (6, 12, 24, 48),
    risks: Sequence[float] = (0.02, 0.05, 0.1, 0.2),
    seed: int = 0,
) -> list[Cell]:
    """Return the cells of all gates, the same users for all: without gate first.

    Raises ValueError for fewer than two users.
    """
    if users < 2:
        raise ValueError(f"users is {users}; a share needs 2 or more")
    simulated = simulate(crowd, users, max(held_out) + 4, seed)
    cells = [cell(simulated, "none", max(held_out), 0.5)]
    measures: tuple[Measure, ...] = ("likelihood", "metric")
    for measure, number, risk in itertools.product(measures, held_out, risks):
        cells.append(cell(simulated, measure, number, risk))
    return cells


def _scores(
    users: Users, user: int, candidate: int, held: slice, which: int, measure: Measure
) -> Scores:
    loglik = users.loglik[user, candidate, held, which] if measure == "likelihood" else ()
    return Scores(tuple(users.metric[user, candidate, held, which].tolist()), tuple(loglik))


def _truth(crowd: Crowd, mean: Floats, taste: Floats, claim: Floats, often: Floats) -> Floats:
    """Return each candidate's exact long-run change in log-likelihood and in the metric.

    Where the attribute is not, nothing changes. What a user feels about other attributes is as
    likely to be up as down; it is taken as 0.
    """
    real = _spread_out(mean + taste, crowd.spread)
    levels = []
    for centre in (np.broadcast_to(mean, taste.shape), mean + claim):
        told = _spread_out(centre, crowd.believed)
        gains = _metric(crowd, told)
        levels.append(np.stack([(real * np.log(told)).sum(-1), (real * gains).sum(-1)], axis=-1))
    change: Floats = often[..., None] * (levels[1] - levels[0])
    return change


def _metric(crowd: Crowd, told: Floats) -> Floats:
    """Return the metric of a prediction for each star that may be given, on the last axis."""
    if crowd.kind == "choice":
        right: Floats = (told == told.max(axis=-1, keepdims=True)).astype(float)
        return right
    error: Floats = -np.abs((told @ STARS)[..., None] - STARS)
    return error


def _spread_out(centre: Floats, spread: float) -> Floats:
    """Return the probabilities of the stars around a centre, on a new last axis."""
    weights = np.exp(-(((STARS - centre[..., None]) / spread) ** 2) / 2) + 1e-4
    told: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return told


def _draw(probabilities: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the place of a star drawn from each row."""
    drawn = rng.random(probabilities.shape[:-1])[..., None]
    places: npt.NDArray[np.int64] = (probabilities.cumsum(axis=-1) < drawn).sum(axis=-1)
    return np.minimum(places, len(STARS) - 1)

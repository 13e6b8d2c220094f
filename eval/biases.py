"""User and item biases: what other people's ratings say, without a model.

r = mu + b_item + b_user, each bias shrunk towards 0 by a prior number of ratings (Koren 2010,
section 2.1, fitted one after the other). It is the bar that a recommender sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from persona_agent.eval.movielens import MovieLens
from persona_agent.types import Record

ITEM_PRIOR = 10.0
USER_PRIOR = 5.0


class Rated(Protocol):
    """A thing that somebody rated."""

    @property
    def film(self) -> str:
        """What was rated."""
        ...

    @property
    def value(self) -> float:
        """How many stars it got."""
        ...


@dataclass(frozen=True, slots=True)
class Biases(Record):
    """The mean of all ratings, and each item's deviation from it."""

    mean: float
    items: dict[str, float]

    def user(self, own: Sequence[Rated]) -> float:
        """Return how far this user's ratings stand from what the items explain."""
        rest = [one.value - self.mean - self.items.get(one.film, 0.0) for one in own]
        return sum(rest) / (len(rest) + USER_PRIOR)

    def predict(
        self, own: Sequence[Rated], film: str, *, low: float = 1.0, high: float = 5.0
    ) -> float:
        """Return the rating expected of a user with the ratings `own`, within `low` to `high`."""
        return min(high, max(low, self.mean + self.items.get(film, 0.0) + self.user(own)))


def fit(ratings: Iterable[Rated]) -> Biases:
    """Return the biases of the items in `ratings`; raises ValueError for none."""
    rows = list(ratings)
    if not rows:
        raise ValueError("there are no ratings to fit biases to")
    mean = fmean(row.value for row in rows)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for row in rows:
        sums[row.film] = sums.get(row.film, 0.0) + row.value - mean
        counts[row.film] = counts.get(row.film, 0) + 1
    return Biases(mean, {film: sums[film] / (counts[film] + ITEM_PRIOR) for film in sums})


def of_others(data: MovieLens, user: str, until: int) -> Biases:
    """Return the biases of everybody else's ratings made before `until`."""
    return fit(
        rating
        for other, ratings in data.ratings.items()
        if other != user
        for rating in ratings
        if rating.when < until
    )

"""User and item biases: what other people's ratings say, without a model.

r = mu + b_item + b_user, each bias shrunk towards 0 by a prior number of ratings (Koren 2010,
section 2.1, fitted one after the other). It is the bar that a recommender sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from persona_agent.eval.movielens import MovieLens, Rating
from persona_agent.types import Record

ITEM_PRIOR = 10.0
USER_PRIOR = 5.0


@dataclass(frozen=True, slots=True)
class Biases(Record):
    """The mean of all ratings, and each item's deviation from it."""

    mean: float
    items: dict[str, float]

    def user(self, own: Sequence[Rating]) -> float:
        """Return how far this user's ratings stand from what the items explain."""
        rest = [one.value - self.mean - self.items.get(one.film, 0.0) for one in own]
        return sum(rest) / (len(rest) + USER_PRIOR)

    def predict(self, own: Sequence[Rating], film: str) -> float:
        """Return the rating expected of a user with the ratings `own`, within 1 to 5."""
        return min(5.0, max(1.0, self.mean + self.items.get(film, 0.0) + self.user(own)))


def fit(ratings: Iterable[Rating]) -> Biases:
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

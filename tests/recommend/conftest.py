"""A small world of people with two tastes, which all recommender tests share."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.data import Interactions


def two_tastes(seed: int = 0, people: int = 60, items: int = 30) -> Interactions:
    """Return people who mostly choose even items or mostly odd ones, low numbers more often."""
    rng = np.random.default_rng(seed)
    users, chosen, values, times = [], [], [], []
    for person in range(people):
        odds = np.where(np.arange(items) % 2 == person % 2, 6.0, 1.0) / (1 + np.arange(items))
        own = rng.choice(items, size=rng.integers(4, 12), replace=False, p=odds / odds.sum())
        for item in own:
            users.append(f"u{person:03}")
            chosen.append(f"i{item:02}")
            values.append(float(rng.integers(1, 6)))
            times.append(int(rng.integers(0, 10_000)))
    return Interactions.of(users, chosen, values, times)


@pytest.fixture(scope="session")
def world() -> Interactions:
    return two_tastes()

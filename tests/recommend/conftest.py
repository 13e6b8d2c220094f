"""A small world of people with two tastes, which all recommender tests share."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.graph import Graph


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


def taste_graph(items: int = 30, makers: int = 8) -> Graph:
    """Return facts about the same items: even or odd, and who made them; every seventh has none.

    One linked item and one entity have nothing to do with these people.
    """
    rng = np.random.default_rng(5)
    known = [one for one in range(items) if one % 7]
    triples = [("e99", "made_by", "m0"), ("elsewhere", "near", "nowhere")]
    for one in known:
        triples.append((f"e{one:02}", "kind", "odd" if one % 2 else "even"))
        triples.append((f"e{one:02}", "made_by", f"m{rng.integers(makers // 2) * 2 + one % 2}"))
    return Graph.of(triples, {**{f"i{one:02}": f"e{one:02}" for one in known}, "i99": "e99"})


@pytest.fixture(scope="session")
def world_graph() -> Graph:
    return taste_graph()

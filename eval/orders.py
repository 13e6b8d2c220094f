"""How good given orders of candidates are: NDCG@10, all items of the catalogue competing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from persona_agent.recommend.data import Histories
from persona_agent.recommend.evaluate import accuracy
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.metrics import PerUser
from persona_agent.recommend.port import Ranking

CUT = 10
METRIC = f"ndcg@{CUT}"
SHUFFLES = 50

Lists: TypeAlias = Sequence[Sequence[str]]  # item ids, one list a person, best first


def ndcg_of(lists: Lists, wanted: Histories) -> PerUser:
    """Return NDCG@10 of each list against what was to be found, all items competing."""
    ranking = as_ranking(lists, wanted.items)
    return accuracy(ranking, wanted, (CUT,))[METRIC]


def by_chance(candidates: Lists, wanted: Histories, seed: int) -> PerUser:
    """Return the mean NDCG@10 of each list over many random orders of it."""
    rng = np.random.default_rng(seed)
    draws = [
        ndcg_of([rng.permutation(one).tolist() for one in candidates], wanted)
        for _ in range(SHUFFLES)
    ]
    mean: PerUser = np.mean(draws, axis=0)
    return mean


def in_best_order(candidates: Lists, wanted: Histories) -> list[list[str]]:
    """Return each list with what was to be found first."""
    return [
        [one for one in row if one in own] + [one for one in row if one not in own]
        for row, own in zip(candidates, map(set, wanted.lists()), strict=True)
    ]


def as_ranking(lists: Lists, items: IdMap) -> Ranking:
    """Return the first ten of each list as a ranking, whose scores are minus the places."""
    positions = np.full((len(lists), CUT), -1, np.int64)
    for row, one in enumerate(lists):
        positions[row, : len(one[:CUT])] = items.positions(one[:CUT])
    places = -np.arange(CUT, dtype=np.float32)
    return Ranking(items, positions, np.where(positions >= 0, places, -np.inf).astype(np.float32))

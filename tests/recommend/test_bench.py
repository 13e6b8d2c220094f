"""The benchmark measures what it says, and EASE gets what it gets elsewhere."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from persona_agent.eval.bench.recommend import (
    CANDIDATES,
    FOLDED_IN,
    SLOW,
    crowd,
    fold_in,
    serving,
    tuned,
)
from persona_agent.eval.datasets import movielens_100k
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.popular import Popularity
from persona_agent.recommend.splits import per_user


@pytest.mark.real("data")
def test_by_the_fixed_protocol_simple_models_get_what_they_get_elsewhere() -> None:
    data = movielens_100k().liked()
    found = []
    for seed in range(3):
        split = per_user(data, seed=seed)
        assert (len(split.train), len(split.test)) == (45_063, 942)
        models = (EASE(l2=250).fit(split.train), Popularity().fit(split.train))
        found.append([evaluate(one, split.test, ks=(10,)).mean("ndcg@10") for one in models])
    ease, popularity = np.mean(found, axis=0)
    assert ease == pytest.approx(0.2311, abs=0.006)  # RecBole 1.2.1 at its defaults
    assert popularity == pytest.approx(0.1, abs=0.01)


def test_validation_chooses_and_test_judges(world: Interactions) -> None:
    split = per_user(world, seed=0)
    candidates = [partial(EASE, l2=l2) for l2 in (1e6, 5.0)]
    by_valid = [evaluate(one().fit(split.train), split.valid).mean("ndcg@10") for one in candidates]
    chosen = candidates[int(np.argmax(by_valid))]().fit(split.train)
    found = tuned(candidates, split)
    assert found.valid == max(by_valid)
    assert found.test == evaluate(chosen, split.test).mean("ndcg@10")
    assert found.make in candidates
    assert found.seconds > 0
    with pytest.raises(ValueError, match="no candidates"):
        tuned([], split)


def test_every_candidate_is_a_model_that_fits(world: Interactions, world_graph: Graph) -> None:
    for name, candidates in CANDIDATES.items():
        for make in candidates:
            assert make().fit(world, world_graph).recommend([["i00"]], 3).positions.shape == (
                1,
                3,
            ), name


def test_what_is_slow_or_folded_in_is_a_candidate() -> None:
    assert {*SLOW, *FOLDED_IN} <= set(CANDIDATES)


def test_times_are_times_and_the_crowd_has_the_size_asked_for(world: Interactions) -> None:
    assert fold_in(EASE(l2=5).fit(world), world.histories().lists()[:5]) > 0
    assert serving(Popularity(), people=30, items=200) > 0
    data = crowd(30, 200, each=10)
    assert (len(data.users), len(data.items)) == (30, 200)
    assert np.bincount(data.item).max() > 5 * np.median(np.bincount(data.item))

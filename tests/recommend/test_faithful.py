"""What faithfulness measures, on a model whose explanations are exact."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.explain import Explanation, Reason
from persona_agent.recommend.faithful import faithfulness, own_items
from persona_agent.recommend.popular import Popularity


def test_without_the_named_items_an_additive_score_falls_by_their_weights(
    world: Interactions,
) -> None:
    model = EASE(l2=5.0).fit(world)
    history = world.histories().lists()[0]
    (best,) = model.recommend([history], 1).ids[0]
    reasons = [one for one in model.explain(history, best).reasons if one.weight > 0][:2]
    found = faithfulness(model, [history], seed=0, own=2)
    assert found.named[0] == pytest.approx(sum(one.weight for one in reasons), abs=1e-5)
    assert found.named[0] > found.random[0]
    assert found.share == 1


def test_an_exact_explanation_is_faithful_for_everybody(world: Interactions) -> None:
    found = faithfulness(EASE(l2=5.0).fit(world), world.histories(), seed=0)
    assert len(found.named) > 30
    assert (found.named >= found.random).all()


def test_people_with_too_little_history_or_no_own_items_named_are_left_out(
    world: Interactions,
) -> None:
    assert len(faithfulness(EASE(l2=5.0).fit(world), [["i00"], []], seed=0).named) == 0
    nobody = faithfulness(Popularity().fit(world), world.histories(), seed=0)
    assert len(nobody.named) == 0
    assert np.isnan(nobody.share)


def test_the_same_seed_gives_the_same_figures(world: Interactions) -> None:
    model = EASE(l2=5.0).fit(world)
    runs = [faithfulness(model, world.histories(), seed=seed).random for seed in (4, 4, 5)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_of_personas_only_the_responsible_ones_items_count() -> None:
    reasons = (Reason("persona", ("a", "b"), 0.7), Reason("persona", ("c",), 0.3))
    assert own_items(Explanation("x", 1.0, reasons), ["a", "b", "c"]) == ["a", "b"]
    items = (Reason("item", ("a",), 2.0), Reason("item", ("c",), -1.0), Reason("item", ("b",), 0.5))
    assert own_items(Explanation("x", 1.5, items), ["a", "b", "c"]) == ["a", "b"]
    path = (Reason("path", ("a", "entity", "x"), 1.0),)
    assert own_items(Explanation("x", 1.0, path), ["a", "b"]) == ["a"]

"""The models in closed form against slow, obvious versions of their equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.knn import ItemKNN
from persona_agent.recommend.popular import Popularity
from persona_agent.recommend.rp3beta import RP3beta


def dense(world: Interactions) -> np.ndarray:
    return world.matrix.toarray().astype(np.float64)


def test_ease_is_the_formula_of_the_paper(world: Interactions) -> None:
    matrix = dense(world)
    inverse = np.linalg.inv(matrix.T @ matrix + 7 * np.eye(matrix.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scores = EASE(l2=7).fit(world).score(world.histories())
    np.testing.assert_allclose(scores, matrix @ weights, atol=1e-5)


def test_ease_minimises_its_own_loss(world: Interactions) -> None:
    matrix, l2 = dense(world), 7.0
    weights = EASE(l2=l2).learn(world.matrix).astype(np.float64)

    def loss(table: np.ndarray) -> float:
        return float(((matrix - matrix @ table) ** 2).sum() + l2 * (table**2).sum())

    rng = np.random.default_rng(0)
    for _ in range(20):
        step = rng.normal(size=weights.shape) * 1e-2
        np.fill_diagonal(step, 0)
        assert loss(weights + step) > loss(weights)


def test_item_knn_is_shrunk_cosine_of_the_nearest(world: Interactions) -> None:
    matrix = dense(world)
    size = matrix.shape[1]
    counts = matrix.sum(axis=0)
    weights = np.zeros((size, size))
    for item in range(size):
        near = [
            ((matrix[:, item] @ matrix[:, j]) / (np.sqrt(counts[item] * counts[j]) + 3), -j)
            for j in range(size)
            if j != item
        ]
        for similarity, minus in sorted(near, reverse=True)[:5]:
            weights[-minus, item] = similarity
    scores = ItemKNN(neighbours=5, shrinkage=3).fit(world).score(world.histories())
    np.testing.assert_allclose(scores, matrix @ weights, atol=1e-5)


def test_rp3beta_is_a_penalised_walk_of_three_steps(world: Interactions) -> None:
    matrix = dense(world)
    to_item = (matrix / matrix.sum(axis=1, keepdims=True)) ** 0.9 * (matrix > 0)
    to_user = (matrix.T / matrix.sum(axis=0)[:, None]) ** 0.9 * (matrix.T > 0)
    weights = to_user @ to_item / matrix.sum(axis=0) ** 0.4
    np.fill_diagonal(weights, 0)
    full = RP3beta(alpha=0.9, beta=0.4, neighbours=99).fit(world).score(world.histories())
    np.testing.assert_allclose(full, matrix @ weights, atol=1e-5)
    first = np.argsort(-weights.round(6), axis=1, kind="stable")[:, :4]  # ties: the lower item
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, first, np.take_along_axis(weights, first, axis=1), axis=1)
    pruned = RP3beta(alpha=0.9, beta=0.4, neighbours=4).fit(world).score(world.histories())
    np.testing.assert_allclose(pruned, matrix @ kept, atol=1e-5)


def test_popularity_counts_people() -> None:
    data = Interactions.of(["a", "b", "c", "a"], ["x", "x", "x", "y"])
    model = Popularity().fit(data)
    assert model.score([["y"]]).tolist() == [[3, 1]]
    why = model.explain(["y"], "x")
    assert [(one.kind, one.weight) for one in why.reasons] == [("popularity", 3)]
    assert why.sentence() == "x is popular: 3 people chose it."


def test_an_explanation_names_the_own_items_that_weigh_most(world: Interactions) -> None:
    model = EASE(l2=5).fit(world)
    history = ["i00", "i01", "i02", "i03"]
    why = model.explain(history, "i04", top=2)
    parts = {
        one: model.score([history], ["i04"])[0, 0]
        - model.score([[kept for kept in history if kept != one]], ["i04"])[0, 0]
        for one in history
    }
    strongest = sorted(parts, key=lambda one: -abs(parts[one]))[:2]
    assert [one.ids[0] for one in why.reasons] == strongest
    assert [one.weight for one in why.reasons] == pytest.approx(
        [parts[one] for one in strongest], abs=1e-5
    )
    assert why.rest + sum(one.weight for one in why.reasons) == pytest.approx(why.score, abs=1e-5)
    titled = model.explain(history, "i04", top=1).sentence(lambda one: f"Film {one}")
    assert titled.startswith("Film i04, because you chose Film i0")


def test_an_item_nobody_chose_scores_nothing_and_breaks_nothing(world: Interactions) -> None:
    kept = world.take(world.item != 3)  # the item stays in the catalogue, without people
    for model in (EASE(), ItemKNN(), RP3beta()):
        scores = model.fit(kept).score([["i03"], ["i01", "i03"]])
        assert np.isfinite(scores).all()
        assert not scores[0].any()
        assert scores[1, 3] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: EASE(l2=0),
        lambda: ItemKNN(neighbours=0),
        lambda: ItemKNN(shrinkage=-1),
        lambda: RP3beta(alpha=0),
        lambda: RP3beta(beta=-0.1),
    ],
)
def test_settings_out_of_range_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"at least|above 0"):
        wrong()

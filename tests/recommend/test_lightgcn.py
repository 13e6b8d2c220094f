"""LightGCN against dense algebra, and how it treats people it knows and people it does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.lightgcn import LightGCN
from persona_agent.recommend.splits import per_user

torch = pytest.importorskip("torch")

MODEL = LightGCN(width=6, layers=2)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_folding_in_is_the_propagation_of_the_paper_from_an_estimated_start(
    world: Interactions, layers: int
) -> None:
    model = dataclasses.replace(MODEL, layers=layers)
    parameters = model.start(world, None)
    arrays = model.serving(parameters)
    matrix = world.matrix.toarray().astype(np.float64)
    scaled = matrix / np.sqrt(np.outer(matrix.sum(axis=1), matrix.sum(axis=0)))
    items, people = (parameters[name].detach().double().numpy() for name in ("items", "people"))
    later, final = np.zeros_like(people), items
    source = items if layers == 0 else np.zeros_like(items)
    for _ in range(layers):
        source = source + items
        people, items = scaled @ items, scaled.T @ people
        later, final = later + people, final + items
    final = final / (layers + 1)
    average = matrix @ final / matrix.sum(axis=1, keepdims=True)
    begin = np.hstack([scaled @ source, average]) @ arrays["map"].double().numpy()
    due = (begin + later) / (layers + 1) @ final.T
    np.testing.assert_allclose(model.scores(arrays, world.histories()), due, atol=1e-4)


def test_a_name_changes_nothing(world: Interactions) -> None:
    model = dataclasses.replace(MODEL, epochs=2, every=1, batch=64).fit(world)
    histories = world.histories()
    nameless = Histories(histories.items, histories.matrix)
    np.testing.assert_array_equal(model.score(histories), model.score(nameless))


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_both_losses_find_what_people_chose_besides(world: Interactions, loss: str) -> None:
    split = per_user(world, seed=1)
    model = LightGCN(width=16, loss=loss, batch=64, learning_rate=0.01, epochs=40).fit(
        split.train, valid=split.valid
    )
    chance = 10 / len(world.items)
    assert evaluate(model, split.test, ks=(10,)).mean("recall@10") > 1.3 * chance


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="layers -1"):
        LightGCN(layers=-1)
    with pytest.raises(ValueError, match="loss is 'mse'"):
        LightGCN(loss="mse")  # type: ignore[arg-type]  # what is tested

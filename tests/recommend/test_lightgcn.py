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


def trained_scores(model: LightGCN, table: np.ndarray, world: Interactions) -> np.ndarray:
    """Return the scores of the paper's equations, in float64."""
    matrix = world.matrix.toarray().astype(np.float64)
    scaled = matrix / np.sqrt(np.outer(matrix.sum(axis=1), matrix.sum(axis=0)))
    items, people = table[: len(world.items)], table[len(world.items) :]
    sums = people, items
    for _ in range(model.layers):
        people, items = scaled @ items, scaled.T @ people
        sums = sums[0] + people, sums[1] + items
    return sums[0] @ sums[1].T / (model.layers + 1) ** 2


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_people_with_the_history_trained_on_get_the_equations_of_the_paper(
    world: Interactions, layers: int
) -> None:
    model = dataclasses.replace(MODEL, layers=layers)
    parameters = model.start(world, None)
    found = model.scores(model.serving(parameters), world.histories())
    table = parameters["table"].detach().numpy().astype(np.float64)
    np.testing.assert_allclose(found, trained_scores(model, table, world), atol=1e-5)


def test_without_layers_it_is_matrix_factorisation(world: Interactions) -> None:
    model = dataclasses.replace(MODEL, layers=0)
    parameters = model.start(world, None)
    table = parameters["table"].detach()
    found = model.scores(model.serving(parameters), world.histories())
    torch.testing.assert_close(found, table[len(world.items) :] @ table[: len(world.items)].T)


def test_a_name_counts_only_with_the_history_that_was_trained_on(world: Interactions) -> None:
    split = per_user(world, seed=1)
    model = dataclasses.replace(MODEL, epochs=3, every=1, batch=64).fit(
        split.train, valid=split.valid
    )
    histories = split.train.histories()
    nameless = Histories(histories.items, histories.matrix)
    assert not np.allclose(model.score(histories), model.score(nameless))
    less = histories.lists()[:5]
    shorter = Histories.of([one[1:] for one in less], histories.items)
    known = Histories(shorter.items, shorter.matrix, histories.users[:5])
    np.testing.assert_array_equal(model.score(known), model.score(shorter))
    rows = np.array([7, 2])
    np.testing.assert_allclose(
        model.score(histories.take(rows)), model.score(histories)[rows], atol=1e-5
    )


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_it_learns_people_it_knows_and_folds_in_others_almost_as_well(
    world: Interactions, loss: str
) -> None:
    split = per_user(world, seed=1)
    model = LightGCN(width=16, loss=loss, batch=64, learning_rate=0.01, epochs=40).fit(
        split.train, valid=split.valid
    )
    nameless = dataclasses.replace(
        split.test, histories=Histories(split.test.histories.items, split.test.histories.matrix)
    )
    chance = 10 / len(world.items)
    for holdout in (split.test, nameless):
        assert evaluate(model, holdout, ks=(10,)).mean("recall@10") > 1.3 * chance


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="layers -1"):
        LightGCN(layers=-1)
    with pytest.raises(ValueError, match="loss is 'mse'"):
        LightGCN(loss="mse")  # type: ignore[arg-type]  # what is tested

"""The laws of the nested model: what its special cases are, and what changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.errors import InputError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.likelihoods import gaussian, multinomial
from persona_agent.recommend.nested import (
    RELATIONS,
    Nested,
    Relation,
    joined,
    personas,
)
from persona_agent.recommend.training import Parameters, Tensor

ITEMS, WIDTH = 7, 4


def arrays(count: int = 1, *, seed: int = 0, same: bool = False) -> Parameters:
    """Return what scoring needs, at random; `same`: all prototypes are one."""
    torch.manual_seed(seed)
    made = {
        "items": torch.randn(ITEMS, WIDTH),
        "mix": torch.randn(WIDTH, WIDTH),
        "offset": torch.randn(WIDTH),
        "bias": torch.randn(ITEMS),
    }
    if count > 1:
        prototypes = torch.randn(count, WIDTH)
        made["prototypes"] = prototypes[:1].expand(count, -1) if same else prototypes
        made["sharpness"] = torch.tensor(1.7)
    return made


def histories(people: int = 5) -> Tensor:
    torch.manual_seed(1)
    chosen = (torch.rand(people, ITEMS) < 0.5).float()
    chosen[:, 0] = 1
    return torch.nn.functional.normalize(chosen, dim=1)


@settings(deadline=None)
@given(count=st.integers(2, 6), seed=st.integers(0, 50))
def test_personas_that_are_all_alike_are_one_persona(count: int, seed: int) -> None:
    one = arrays(1, seed=seed)
    many = one | {
        name: value
        for name, value in arrays(count, seed=seed, same=True).items()
        if name in ("prototypes", "sharpness")
    }
    alone = Nested(personas=1, dimensions=WIDTH).forward(one, histories())
    together = Nested(personas=count, dimensions=WIDTH).forward(many, histories())
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_the_length_of_a_persona_does_not_fall_with_the_number_of_personas() -> None:
    alike = arrays(4, same=True) | {"offset": torch.zeros(WIDTH)}
    single = {name: one for name, one in alike.items() if name not in ("prototypes", "sharpness")}
    many, one = personas(alike, histories(), 0.1), personas(single, histories(), 0.1)
    torch.testing.assert_close(many.norm(dim=2), one.norm(dim=2).expand(-1, 4))


def test_the_order_of_prototypes_changes_nothing() -> None:
    given_arrays = arrays(4)
    turned = given_arrays | {"prototypes": given_arrays["prototypes"][[2, 0, 3, 1]]}
    model = Nested(personas=4, dimensions=WIDTH)
    torch.testing.assert_close(
        model.forward(turned, histories()), model.forward(given_arrays, histories())
    )


@settings(deadline=None)
@given(seed=st.integers(0, 200), sharpness=st.floats(0.05, 20))
def test_a_score_is_a_smooth_maximum_over_personas(seed: int, sharpness: float) -> None:
    torch.manual_seed(seed)
    liked = 3 * torch.randn(3, 4, ITEMS)
    found = joined(liked, torch.tensor(sharpness))
    highest = liked.max(dim=1).values
    assert (found <= highest + 1e-4).all()
    assert (found >= highest - np.log(4) / sharpness - 1e-4).all()


def test_one_persona_without_relations_is_a_linear_autoencoder_by_hand() -> None:
    made, inputs = arrays(), histories()
    found = Nested(dimensions=WIDTH).forward(made, inputs)
    hidden = inputs.numpy() @ made["items"].numpy()
    by_hand = (hidden @ made["mix"].numpy().T + made["offset"].numpy()) @ made["items"].numpy().T
    np.testing.assert_allclose(found, by_hand + made["bias"].numpy(), atol=1e-4)


def test_a_graph_without_facts_is_interactions_alone(world: Interactions) -> None:
    empty = Graph.of([], {})
    small = {"dimensions": 8, "epochs": 4, "every": 2, "batch": 16}
    for count in (1, 3):
        facts = Nested(relation="graph", personas=count, **small).fit(world, empty)
        choices = Nested(relation="interactions", personas=count, **small).fit(world)
        np.testing.assert_allclose(facts.score([["i01"]]), choices.score([["i01"]]), atol=1e-5)


def test_it_can_be_ease_and_ease_is_the_optimum_of_its_gaussian_loss(world: Interactions) -> None:
    """With items at the unit vectors, W at EASE's weights: equal scores, and no gradient that
    EASE's own penalty does not balance, but on the diagonal, which EASE forbids."""
    size, l2 = len(world.items), 5.0
    ease = EASE(l2=l2).fit(world)
    people = world.histories()
    chosen = torch.from_numpy(people.matrix.toarray())
    weights = torch.from_numpy(ease.score([[one] for one in world.items])).double()
    made = {
        "items": torch.eye(size).double(),
        "mix": weights.T.clone().requires_grad_(),
        "offset": torch.zeros(size).double(),
        "bias": torch.zeros(size).double(),
    }
    model = Nested(likelihood="gaussian", weight=1, dimensions=size)
    scores = model.forward(made, chosen.double())
    np.testing.assert_allclose(scores.detach(), ease.score(people), atol=1e-4)
    loss = gaussian(scores, chosen.double()) * len(chosen) + l2 / 2 * (made["mix"] ** 2).sum()
    loss.backward()
    gradient = made["mix"].grad - torch.diag(made["mix"].grad.diagonal())
    assert float(gradient.abs().max()) < 1e-2
    wrong = (made["mix"].detach() + 0.01).requires_grad_()
    scores = model.forward(made | {"mix": wrong}, chosen.double())
    (gaussian(scores, chosen.double()) * len(chosen) + l2 / 2 * (wrong**2).sum()).backward()
    assert float(wrong.grad.abs().max()) > 0.1


def test_training_begins_at_what_is_popular(world: Interactions) -> None:
    for name in ("multinomial", "gaussian", "logistic"):
        model = Nested(likelihood=name, dimensions=8, learning_rate=1e-12, epochs=1, every=1)
        model.fit(world)
        made = model._known()
        order = np.argsort(-made.arrays["bias"].numpy(), kind="stable")
        assert (np.diff(made.counts[order]) <= 0).all()


def test_an_emptied_history_has_a_gradient_that_is_a_number() -> None:
    made = {name: one.requires_grad_() for name, one in arrays(3).items()}
    chosen = torch.zeros(2, ITEMS)
    chosen[0, 2] = 1
    multinomial(Nested(personas=3, dimensions=WIDTH).forward(made, chosen), chosen).backward()
    assert all(torch.isfinite(one.grad).all() for one in made.values())


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_trains_with_every_number_of_personas(
    relation: Relation, world: Interactions, world_graph: Graph
) -> None:
    for count in (1, 2):
        model = Nested(relation=relation, personas=count, dimensions=8, epochs=4, every=2, batch=16)
        model.fit(world, world_graph)
        assert model.trained.curve[-1][0] == 4


def test_facts_without_a_graph_are_refused(world: Interactions) -> None:
    with pytest.raises(InputError, match="relation 'graph_only' learns from a graph; give one"):
        Nested(relation="graph_only").fit(world)
    with pytest.raises(ValueError, match="relation is 'kg'; it must be one of none"):
        Nested(relation="kg")  # type: ignore[arg-type]


def test_it_names_the_persona_and_the_path(world: Interactions, world_graph: Graph) -> None:
    small = {"relation": "graph", "dimensions": 8, "epochs": 10, "every": 5, "batch": 16}
    several = Nested(personas=3, **small).fit(world, world_graph)
    why = several.explain(["i01", "i03", "i02"], "i05")
    assert [one.kind for one in why.reasons] == ["persona"] * 3
    assert sum(one.weight for one in why.reasons) == pytest.approx(1, abs=1e-5)
    single = Nested(**small).fit(world, world_graph)
    path = single.explain(["i01", "i03", "i02"], "i05", top=1).reasons[0]
    assert path.kind == "path"
    assert path.ids[-1] == "i05"
    assert path.ids[0] in ("i01", "i03")  # i02 is even: nothing of it leads to i05 in two steps
    assert len(path.relations) == 2
    assert several.paths(["i01", "i03", "i02"], "i05", top=1)[0].ids == path.ids


def test_attention_sums_to_one_over_personas(world: Interactions) -> None:
    model = Nested(personas=3, dimensions=8, epochs=2, every=1, batch=16).fit(world)
    shares = model.attention([["i01", "i02"], []])
    assert shares.shape == (2, 3, len(model.items))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert model.item_vectors().shape == (len(model.items), 8)

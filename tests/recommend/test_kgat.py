"""KGAT against slow versions of its equations, its attention, its two passes and its paths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from persona_agent.recommend import transr
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.kgat import KGAT
from persona_agent.recommend.splits import per_user
from persona_agent.recommend.training import Parameters
from persona_agent.recommend.turns import Turns

torch = pytest.importorskip("torch")

MODEL = KGAT(width=6, relation_width=5, layers=(4, 3), batch=64, edge_batch=64, dropout=0.0)


@pytest.fixture
def parameters(world: Interactions, world_graph: Graph) -> Parameters:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = MODEL.start(world, world_graph)
        attend(found)
        return found


def attend(parameters: Parameters) -> None:
    """Put the attention in place that the tables give, larger tables than it starts with."""
    with torch.no_grad():
        for name in ("nodes", "shifts"):
            parameters[name].mul_(5)
        parameters["weights"] = transr.attention(
            *(parameters[name] for name in ("nodes", "heads", "tails")),
            parameters["counts"].tolist(),
            parameters["maps"],
            parameters["shifts"],
        )


def test_attention_is_the_equation_and_sums_to_one_for_each_head(parameters: Parameters) -> None:
    weights = parameters["weights"].numpy()
    heads, kinds, tails = (parameters[name].numpy() for name in ("heads", "kinds", "tails"))
    nodes, maps, shifts = (
        parameters[name].detach().numpy().astype(np.float64) for name in ("nodes", "maps", "shifts")
    )
    logits = np.array(
        [
            (nodes[tail] @ maps[kind]) @ np.tanh(nodes[head] @ maps[kind] + shifts[kind])
            for head, kind, tail in zip(heads, kinds, tails, strict=True)
        ]
    )
    for head in np.unique(heads):
        powers = np.exp(logits[heads == head])
        np.testing.assert_allclose(weights[heads == head], powers / powers.sum(), rtol=1e-4)
        assert weights[heads == head].sum() == pytest.approx(1, abs=1e-5)


def test_softmax_by_group_bears_large_numbers_and_empty_groups() -> None:
    found = transr.softmax_by(torch.tensor([0, 2, 2]), torch.tensor([1e4, 1e4, -1e4]), 4)
    assert found.tolist() == [1, 1, 0]


def slow_layers(parameters: Parameters, slope: float) -> tuple[list, np.ndarray]:
    """Return each layer of all nodes and their e* by the equations, densely, in float64."""
    given = {name: one.detach().numpy() for name, one in parameters.items()}
    matrix = np.zeros((len(given["nodes"]),) * 2)
    np.add.at(matrix, (given["heads"], given["tails"]), given["weights"])
    layers = [given["nodes"].astype(np.float64)]
    for number in range(2):
        layers.append(slow_interact(given, number, layers[-1], matrix @ layers[-1], slope))
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in layers[1:]]
    return layers, np.concatenate([layers[0], *unit], axis=1)


def slow_interact(
    given: dict, number: int, own: np.ndarray, near: np.ndarray, slope: float
) -> np.ndarray:
    total = np.zeros(1)
    for name, both in (("sum", own + near), ("product", own * near)):
        raw = both @ given[f"{name}.{number}.weight"].T + given[f"{name}.{number}.bias"]
        total = total + np.where(raw > 0, raw, slope * raw)
    return total


def test_items_and_people_get_the_equations_of_the_paper(
    parameters: Parameters, world: Interactions
) -> None:
    _, every = slow_layers(parameters, MODEL.slope)
    _, outer = MODEL.represent(parameters, MODEL.operators(parameters), 0.0)
    found = torch.cat(outer, dim=1).detach().numpy()
    np.testing.assert_allclose(found, every[parameters["seen"].numpy()], atol=1e-4)


def test_folding_in_is_the_propagation_of_the_paper_from_an_estimated_start(
    parameters: Parameters, world: Interactions
) -> None:
    arrays = MODEL.serving(parameters)
    layers, every = slow_layers(parameters, MODEL.slope)
    given = {name: one.detach().double().numpy() for name, one in arrays.items()}
    items = every[: len(world.items)]
    for history, scores in zip(
        world.histories().lists()[:5], MODEL.scores(arrays, world.histories()), strict=False
    ):
        own = world.items.positions(history)
        size = len(own)
        features = np.concatenate([items[own].sum(axis=0) / np.sqrt(size), items[own].mean(axis=0)])
        person = features @ given["map"]
        query = np.tanh(person @ given["chose.map"] + given["chose.shift"])
        powers = np.exp(layers[0][own] @ given["chose.map"] @ query)
        parts = [person]
        for number in range(2):
            near = powers / powers.sum() @ layers[number][own]
            person = slow_interact(given, number, person, near, MODEL.slope)
            parts.append(person / np.linalg.norm(person))
        np.testing.assert_allclose(scores, items @ np.concatenate(parts), atol=1e-4)


def test_the_first_epoch_walks_at_random_and_the_next_attends(
    world: Interactions, world_graph: Graph
) -> None:
    parameters = MODEL.start(world, world_graph)
    walked = parameters["weights"]
    steps = list(MODEL.losses(parameters, world, 1))
    edges = len(parameters["heads"])
    assert len(steps) == -(-len(world) // 64) + -(-edges // 64)
    assert not torch.equal(walked, parameters["weights"])
    sums = torch.zeros(len(parameters["nodes"])).index_add(
        0, parameters["heads"], parameters["weights"]
    )
    torch.testing.assert_close(sums[sums > 0], torch.ones_like(sums[sums > 0]))
    only = dataclasses.replace(MODEL, edges="facts")
    facts = len(list(only.losses(parameters, world, 1))) - -(-len(world) // 64)
    assert facts == -(-len(world_graph) // 64)


def test_the_loss_of_edges_is_the_equation(parameters: Parameters) -> None:
    heads, kinds, tails = (parameters[name] for name in ("heads", "kinds", "tails"))
    nodes, maps, shifts = (parameters[name].detach() for name in ("nodes", "maps", "shifts"))
    torch.manual_seed(3)
    arguments = (nodes, heads, kinds, tails, maps, shifts)
    (found,) = transr.losses(*arguments, batch=10_000, l2=0.1)
    torch.manual_seed(3)
    order = torch.randperm(len(heads))
    order = order[kinds[order].sort()[1]]
    false = torch.randint(len(nodes), (len(heads),))
    total = 0.0
    for edge, other in zip(order.tolist(), false.tolist(), strict=True):
        head, kind, tail = int(heads[edge]), int(kinds[edge]), int(tails[edge])
        moved = nodes[head] @ maps[kind] + shifts[kind]
        true = ((moved - nodes[tail] @ maps[kind]) ** 2).sum()
        corrupted = ((moved - nodes[other] @ maps[kind]) ** 2).sum()
        length = sum((nodes[one] ** 2).sum() for one in (head, tail, other))
        total += torch.nn.functional.softplus(true - corrupted)
        total += 0.1 / 2 * (length + (shifts[kind] ** 2).sum())
    torch.testing.assert_close(found, total / len(heads), rtol=1e-4, atol=1e-5)


def test_choices_teach_the_layers_and_edges_the_relations_and_both_the_nodes(
    world: Interactions, world_graph: Graph
) -> None:
    parameters = MODEL.start(world, world_graph)
    learned = {name: one for name, one in parameters.items() if one.requires_grad}
    taught = []
    for loss in MODEL.losses(parameters, world, 1):
        gradients = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
        taught.append(
            {name for name, one in zip(learned, gradients, strict=True) if one is not None}
        )
    layers = {name for name in learned if name.startswith(("sum", "product"))}
    assert taught[0] == {"nodes"} | layers
    assert taught[-1] == {"nodes", "maps", "shifts"}


def test_losses_that_take_turns_do_not_share_moments() -> None:
    def run(optimiser: object, both: list, turns: str) -> list[float]:
        for turn in turns:
            optimiser.zero_grad()
            ((both[0] * both[1 if turn == "a" else 2]) ** 2).sum().backward()
            optimiser.step()
        return [float(one.detach()) for one in both]

    def fresh() -> list:
        return [torch.tensor(float(one), requires_grad=True) for one in (1, 2, 3)]

    def adam(learned: list) -> object:
        return torch.optim.Adam(learned, lr=0.1)

    alone, turning, mixed = fresh(), fresh(), fresh()
    assert run(adam(alone[:2]), alone, "aaa") == run(Turns(turning, adam), turning, "aaa")
    alternate = fresh()
    assert run(Turns(alternate, adam), alternate, "ab") != run(adam(mixed), mixed, "ab")


def test_without_a_graph_it_says_what_is_due(world: Interactions) -> None:
    with pytest.raises(ValueError, match=r"no graph was given; call fit\(interactions, graph\)"):
        MODEL.fit(world)


def test_settings_that_cannot_be_are_refused() -> None:
    for settings, message in (
        ({"layers": ()}, "one width or more"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"edges": "some"}, "it must be all or facts"),
        ({"edge_batch": 0}, "edge_batch is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            KGAT(**settings)


def series_world(seed: int = 0) -> tuple[Interactions, Graph]:
    """Return people who chose two films of each of four series, and the graph that tells which.

    There are ten series of five films; every film also has a country, which nobody cares about.
    """
    rng = np.random.default_rng(seed)
    users, films = [], []
    for person in range(80):
        for series in rng.choice(10, 4, replace=False):
            for film in rng.choice(5, 2, replace=False):
                users.append(f"u{person}")
                films.append(f"f{series}{film}")
    every = [f"f{series}{film}" for series in range(10) for film in range(5)]
    triples = [(one, "part_of", f"series{one[1]}") for one in every]
    triples += [(one, "made_in", f"country{rng.integers(3)}") for one in every]
    return Interactions.of(users, films), Graph.of(triples, {one: one for one in every})


def test_removing_the_own_item_of_the_strongest_path_matters_more_than_removing_another() -> None:
    data, graph = series_world()
    split = per_user(data, seed=0)
    model = KGAT(
        width=16, relation_width=16, layers=(16,), loss="softmax", batch=32, edge_batch=256,
        learning_rate=0.02, epochs=25,
    ).fit(split.train, graph, valid=split.valid)  # fmt: skip
    rng = np.random.default_rng(0)
    named, other = [], []
    wanted = split.test.wanted.lists()
    for history, (item, *_) in zip(split.test.histories.lists(), wanted, strict=True):
        why = model.explain(history, item)
        if why.reasons[0].kind == "path":
            gone = (
                why.reasons[0].ids[0],
                rng.choice([one for one in history if one != why.reasons[0].ids[0]]),
            )
            without = [[one for one in history if one != without] for without in gone]
            first, second = why.score - model.score(without, [item])[:, 0]
            named.append(first)
            other.append(second)
    assert len(named) > 60
    assert np.mean(named) > 1.2 * np.mean(np.abs(other))
    assert np.mean(named) > 3 * abs(np.mean(other))


def test_a_path_leads_from_an_own_item_to_the_recommended_one_by_true_facts(
    world: Interactions, world_graph: Graph
) -> None:
    model = dataclasses.replace(MODEL, epochs=2, every=1).fit(world, world_graph)
    why = model.explain(["i01", "i02", "i07"], "i03", top=None)
    facts = {
        (
            world_graph.entities.ids[head],
            world_graph.relations.ids[kind],
            world_graph.entities.ids[tail],
        )
        for head, kind, tail in zip(
            world_graph.heads, world_graph.kinds, world_graph.tails, strict=True
        )
    }
    entity_of = dict(
        zip(world_graph.linked, world_graph.entities.ids[world_graph.linked_to], strict=True)
    )
    assert why.reasons
    for reason in why.reasons:
        assert reason.kind == "path"
        assert reason.ids[0] in ("i01", "i02")
        assert reason.ids[-1] == "i03"
        nodes = [
            entity_of[one] if kind == "item" else one
            for one, kind in zip(reason.ids, reason.nodes, strict=True)
        ]
        for head, relation, tail in zip(nodes, reason.relations, nodes[1:], strict=False):
            fact = (head, relation, tail) if relation[0] != "^" else (tail, relation[1:], head)
            assert fact in facts
    assert why.sentence().startswith("i03, by the path i0")


def test_an_item_without_facts_is_explained_by_own_items(
    world: Interactions, world_graph: Graph
) -> None:
    model = dataclasses.replace(MODEL, epochs=2, every=1).fit(world, world_graph)
    assert {one.kind for one in model.explain(["i01", "i02"], "i07").reasons} == {"item"}
    assert {one.kind for one in model.explain(["i07"], "i01").reasons} == {"item"}

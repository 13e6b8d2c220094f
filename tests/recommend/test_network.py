"""Networks and their matrices, by hand and against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.errors import InputError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.network import (
    CHOSE,
    Network,
    adjacency,
    network,
    normalised,
    walk,
    weighted,
)


def small() -> tuple[Interactions, Graph]:
    data = Interactions.of(["ann", "bob", "bob"], ["tea", "tea", "jam"])
    facts = [("T", "grows", "hills"), ("X", "grows", "hills"), ("T", "pairs", "J")]
    return data, Graph.of(facts, {"tea": "T", "jam": "J", "rye": "X"})


def test_items_come_first_then_other_entities_then_people() -> None:
    data, graph = small()
    net = network(data.items, data, graph)
    assert list(net.items) == ["jam", "tea"]
    assert list(net.entities) == ["X", "hills"]  # rye is no item here: X stays an entity
    assert (len(net), net.first_person, net.people) == (6, 4, 2)
    assert net.relations == ("grows", "pairs", CHOSE)
    edges = list(zip(net.heads.tolist(), net.kinds.tolist(), net.tails.tolist(), strict=True))
    there = [(1, 0, 3), (2, 0, 3), (1, 1, 0), (4, 2, 1), (5, 2, 0), (5, 2, 1)]
    back = [(tail, kind + 3, head) for head, kind, tail in there]
    assert edges == sorted(there + back, key=lambda one: (one[1], one[0], one[2]))
    assert net.counts.tolist() == [2, 1, 3, 2, 1, 3]


def test_a_network_may_have_only_people_or_only_facts() -> None:
    data, graph = small()
    people, facts = network(data.items, data, None), network(data.items, None, graph)
    assert (len(people), people.relations, people.counts.tolist()) == (4, (CHOSE,), [3, 3])
    assert (len(facts), facts.people, facts.counts.tolist()) == (4, 0, [2, 1, 0, 2, 1, 0])
    assert adjacency(people).nnz == 6


def test_people_of_other_items_are_refused() -> None:
    data, _ = small()
    with pytest.raises(ValueError, match="different items"):
        network(IdMap(["tea"], "item"), data, None)


def test_an_item_without_an_entity_has_no_facts(world: Interactions, world_graph: Graph) -> None:
    net = network(world.items, None, world_graph)
    (alone,) = world.items.positions(["i07"])
    assert alone not in net.heads
    assert len(net) == len(world.items) + len(net.entities)


@pytest.fixture
def whole(world: Interactions, world_graph: Graph) -> Network:
    return network(world.items, world, world_graph)


def test_the_normalised_adjacency_is_the_formula(whole: Network) -> None:
    dense = np.zeros((len(whole), len(whole)))
    dense[whole.heads, whole.tails] = 1
    degree = dense.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
    found = normalised(adjacency(whole))
    np.testing.assert_allclose(found.toarray(), scale[:, None] * dense * scale, atol=1e-6)
    assert found.dtype == np.float32
    assert (abs(found - found.T)).nnz == 0  # exactly symmetric: gradients need no transpose


def test_a_walk_chooses_evenly_among_the_edges_of_a_kind(whole: Network) -> None:
    shares = walk(whole)
    for kind in range(len(whole.counts)):
        for head in np.unique(whole.heads[whole.kinds == kind]):
            own = shares[(whole.kinds == kind) & (whole.heads == head)]
            np.testing.assert_allclose(own, 1 / len(own), rtol=1e-6)


def test_weights_of_edges_between_the_same_nodes_add_up() -> None:
    data, _ = small()
    graph = Graph.of([("T", "grows", "hills"), ("T", "loves", "hills")], {"tea": "T"})
    net = network(data.items, None, graph)
    matrix = weighted(net, np.array([1, 2, 4, 8], np.float32))
    assert matrix.toarray()[1, 2] == 3
    assert matrix.toarray()[2, 1] == 12
    assert adjacency(net).toarray()[1, 2] == 1


def test_shuffling_a_graph_keeps_every_degree_of_every_relation(world_graph: Graph) -> None:
    other = world_graph.shuffled(seed=1)
    assert len(other) == len(world_graph)
    assert not np.array_equal(other.tails, world_graph.tails)
    for kind in range(len(world_graph.relations)):
        mine, theirs = world_graph.kinds == kind, other.kinds == kind
        assert np.array_equal(np.sort(world_graph.tails[mine]), np.sort(other.tails[theirs]))
        assert np.array_equal(world_graph.heads[mine], other.heads[theirs])
    assert np.array_equal(other.tails, world_graph.shuffled(seed=1).tails)


def test_a_relinked_graph_has_its_items_under_other_names(world_graph: Graph) -> None:
    names = list(world_graph.linked.ids)
    other = world_graph.relinked({names[0]: "z", names[1]: "a"})
    assert list(other.linked.ids) == ["a", "z"]
    assert list(other.linked_to) == [world_graph.linked_to[1], world_graph.linked_to[0]]
    assert len(other) == len(world_graph)
    with pytest.raises(InputError, match="1 items would get a name twice"):
        world_graph.relinked({names[0]: "z", names[1]: "z"})

"""What is left of a graph when only what can join the items of a catalogue is kept."""

from __future__ import annotations

from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap

ITEMS = IdMap(["i1", "i2", "i3"], "item")
LINKS = {"i1": "a", "i2": "b", "i3": "c", "other": "d"}


def triples(graph: Graph) -> set[tuple[str, str, str]]:
    entities, relations = graph.entities.ids, graph.relations.ids
    return set(
        zip(entities[graph.heads], relations[graph.kinds], entities[graph.tails], strict=True)
    )


def test_dead_ends_go_until_none_is_left() -> None:
    graph = Graph.of(
        [
            ("a", "by", "x"),
            ("x", "from", "y"),
            ("y", "in", "z"),  # a chain that ends nowhere: all of it goes
            ("a", "by", "w"),
            ("a", "about", "w"),  # one neighbour by two relations is one neighbour
            ("a", "by", "v"),
            ("b", "by", "v"),
        ],
        LINKS,
    )
    assert triples(graph.trimmed(ITEMS)) == {("a", "by", "v"), ("b", "by", "v")}


def test_entities_that_join_items_at_a_distance_stay() -> None:
    chain = [("a", "by", "x"), ("x", "from", "y"), ("y", "of", "b")]
    assert triples(Graph.of(chain, LINKS).trimmed(ITEMS)) == set(chain)


def test_only_entities_of_triples_and_of_the_items_are_kept() -> None:
    graph = Graph.of([("a", "by", "v"), ("b", "by", "v"), ("d", "by", "u")], LINKS).trimmed(ITEMS)
    assert list(graph.entities) == ["a", "b", "c", "v"]
    assert list(graph.linked) == ["i1", "i2", "i3"]
    assert [graph.entities.ids[at] for at in graph.entity_of(ITEMS)] == ["a", "b", "c"]


def test_an_entity_of_another_catalogue_may_join_items() -> None:
    graph = Graph.of([("a", "like", "d"), ("d", "like", "b")], LINKS).trimmed(ITEMS)
    assert triples(graph) == {("a", "like", "d"), ("d", "like", "b")}


def test_what_was_trimmed_once_is_trimmed() -> None:
    graph = Graph.of([("a", "by", "x"), ("a", "by", "v"), ("b", "by", "v")], LINKS)
    once = graph.trimmed(ITEMS)
    twice = once.trimmed(ITEMS)
    assert triples(once) == triples(twice)
    assert once.entities == twice.entities


def test_a_graph_without_triples_keeps_the_items_entities() -> None:
    graph = Graph.of([], LINKS).trimmed(ITEMS)
    assert (len(graph), list(graph.entities)) == (0, ["a", "b", "c"])

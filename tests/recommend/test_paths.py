"""The strongest paths, against a search that tries them all."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.explain import Explanation, Reason
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.paths import Edges, Path, reasons, strongest_paths


def all_paths(edges: Edges, begin: np.ndarray, target: int, longest: int) -> list[Path]:
    rows = list(zip(edges.heads, edges.kinds, edges.tails, edges.weights, strict=True))
    found: list[Path] = []

    def walk(nodes: list[int], kinds: list[int], weight: float) -> None:
        if nodes[-1] == target:
            found.append(Path(tuple(nodes), tuple(kinds), weight))
        elif len(kinds) < longest:
            for head, kind, tail, share in rows:
                if head == nodes[-1] and tail not in nodes and not begin[tail] > 0:
                    walk([*nodes, int(tail)], [*kinds, int(kind)], weight * share)

    for node in np.flatnonzero(begin > 0):
        walk([int(node)], [], float(begin[node]))
    return found


def random_edges(seed: int, nodes: int = 9, count: int = 30) -> Edges:
    rng = np.random.default_rng(seed)
    heads, tails = rng.integers(nodes, size=(2, count))
    return Edges(heads, rng.integers(3, size=count), tails, rng.random(count) + 0.01)


@pytest.mark.parametrize("longest", [1, 2, 3, 4])
def test_they_are_those_of_a_search_that_tries_all(longest: int) -> None:
    for seed in range(10):
        edges = random_edges(seed)
        begin = np.zeros(9)
        begin[[0, 1, 2]] = 0.5, 0.3, 0.2
        due = all_paths(edges, begin, 8, longest)
        found = strongest_paths(edges, begin, 8, longest=longest, top=None)
        assert sorted((one.nodes, one.kinds) for one in found) == sorted(
            (one.nodes, one.kinds) for one in due
        )
        weights = [one.weight for one in found]
        np.testing.assert_allclose(
            weights, sorted((one.weight for one in due), reverse=True), rtol=1e-5
        )
        assert strongest_paths(edges, begin, 8, longest=longest, top=3) == found[:3]
        for one in found:
            assert begin[one.nodes[0]] > 0
            assert all(begin[node] == 0 for node in one.nodes[1:])


def test_without_a_way_there_is_no_path() -> None:
    edges = Edges(*(np.array(one) for one in ([0], [0], [1])), np.array([1.0]))
    assert strongest_paths(edges, np.array([0.0, 1.0, 0.0]), 0) == []
    assert strongest_paths(edges, np.zeros(3), 1) == []
    with pytest.raises(ValueError, match="longest is 0"):
        strongest_paths(edges, np.zeros(3), 1, longest=0)


def test_equal_paths_come_in_a_fixed_order_and_short_ones_first() -> None:
    edges = Edges(
        np.array([0, 1, 0, 2]), np.array([0, 0, 1, 0]), np.array([3, 3, 2, 3]), np.ones(4)
    )
    begin = np.array([1.0, 1.0, 0.0, 0.0])
    found = strongest_paths(edges, begin, 3, top=None)
    assert [one.nodes for one in found] == [(0, 3), (1, 3), (0, 2, 3)]


def test_a_path_as_a_reason_has_ids_relations_and_what_each_id_is() -> None:
    items = IdMap(["1", "2"], "item")
    path = Path((0, 2, 1), (0, 2), 0.25)
    (reason,) = reasons([path], items, ["1"], ["played_by", "chose"])
    assert reason == Reason(
        "path", ("1", "1", "2"), 0.25, ("played_by", "^played_by"), ("item", "entity", "item")
    )
    said = Explanation("2", 1.0, (reason,)).sentence(
        {"1": "Heat", "2": "Ronin"}.get, {"1": "De Niro"}.get
    )
    assert said == "Ronin, by the path Heat - played_by - De Niro - ^played_by - Ronin."

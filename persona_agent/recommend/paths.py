"""The strongest paths through a graph, from what somebody chose to what is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.explain import Reason
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.types import FloatArray, Record


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Edges of equal length arrays: from `heads` to `tails`, of `kinds`, with `weights` above 0."""

    heads: IntArray
    kinds: IntArray
    tails: IntArray
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.heads)

    def take(self, rows: IntArray) -> Edges:
        """Return these edges, in their order."""
        return Edges(self.heads[rows], self.kinds[rows], self.tails[rows], self.weights[rows])


@dataclass(frozen=True, slots=True)
class Path(Record):
    """A path by its nodes, one more than there are kinds of edges between them."""

    nodes: tuple[int, ...]
    kinds: tuple[int, ...]
    weight: float


def strongest_paths(
    edges: Edges, begin: FloatArray, target: int, *, longest: int = 2, top: int | None = 5
) -> list[Path]:
    """Return the `top` paths to `target` of largest weight (None: all), strongest first.

    `begin` (nodes,) has a weight above 0 for nodes that paths may begin at. A path's weight is
    that of its first node times those of its edges, of which there are `longest` at most. A path
    visits no node twice and goes through no node that it could begin at. Equal weights: the
    shorter path, then the one of lower nodes and kinds. Exact, by joining the edges backwards from
    the target; all but the last join keep every partial path.
    """
    if longest < 1:
        raise ValueError(f"longest is {longest}; a path has at least 1 edge")
    found: list[Path] = []
    nodes, kinds = np.array([[target]]), np.empty((1, 0), np.int64)
    weights = np.ones(1, np.float32)
    for step in range(1, longest + 1):
        path, edge = _joins(edges, nodes[:, 0], begin, last=step == longest)
        before = edges.heads[edge]
        new = ~(nodes[path] == before[:, None]).any(axis=1)
        path, edge, before = path[new], edge[new], before[new]
        nodes = np.column_stack([before, nodes[path]])
        kinds = np.column_stack([edges.kinds[edge], kinds[path]])
        weights = weights[path] * edges.weights[edge]
        done = begin[before] > 0
        found += _paths(nodes[done], kinds[done], weights[done] * begin[before[done]], top)
        nodes, kinds, weights = nodes[~done], kinds[~done], weights[~done]
    found.sort(key=lambda one: (-one.weight, len(one.nodes), one.nodes, one.kinds))
    return found[:top]


def reasons(
    paths: Sequence[Path], items: IdMap, entities: Sequence[str], relations: Sequence[str]
) -> list[Reason]:
    """Return paths as reasons, with ids for nodes numbered as in a `Network`.

    A relation that a path takes against its direction is written with ^ before it, as in SPARQL.
    """
    names = [*relations, *(f"^{one}" for one in relations)]
    return [
        Reason(
            "path",
            tuple(
                items.ids[node] if node < len(items) else entities[node - len(items)]
                for node in one.nodes
            ),
            one.weight,
            tuple(names[kind] for kind in one.kinds),
            tuple("item" if node < len(items) else "entity" for node in one.nodes),
        )
        for one in paths
    ]


def _joins(
    edges: Edges, ends: IntArray, begin: FloatArray, *, last: bool
) -> tuple[IntArray, IntArray]:
    """Return each pair of a path and an edge that leads to its first node, given in `ends`."""
    wanted = np.zeros(len(begin), bool)
    wanted[ends] = True
    usable = wanted[edges.tails]
    if last:
        usable &= begin[edges.heads] > 0
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(edges.tails[rows], kind="stable")]
    tails = edges.tails[rows]
    first = np.searchsorted(tails, ends)
    counts = np.searchsorted(tails, ends, side="right") - first
    path = np.repeat(np.arange(len(ends)), counts)
    within = np.arange(len(path)) - np.repeat(np.cumsum(counts) - counts, counts)
    return path, rows[first[path] + within]


def _paths(nodes: IntArray, kinds: IntArray, weights: FloatArray, top: int | None) -> list[Path]:
    """Return the rows as paths, of very many no more than the best `top` and ties with them."""
    if top is not None and len(weights) > top:
        edge = np.partition(weights, len(weights) - top)[len(weights) - top] if top else np.inf
        kept = weights >= edge
        nodes, kinds, weights = nodes[kept], kinds[kept], weights[kept]
    rows = zip(nodes.tolist(), kinds.tolist(), weights.tolist(), strict=True)
    return [Path(tuple(node), tuple(kind), weight) for node, kind, weight in rows]

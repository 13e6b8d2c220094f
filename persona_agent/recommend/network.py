"""Items, entities and people as one graph, and the sparse matrices that graph models use.

Every function is pure: arrays and scipy's CSR in, the same out. Products with tables that are
learned are in `propagation.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from persona_agent.recommend.data import Csr, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.types import FloatArray

CHOSE = "chose"  # the relation from a person to an item


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One graph of all nodes, each edge both ways.

    Nodes are numbered: the items in the order of their map, then the entities that are none of
    these items, then people. Edge e runs from `heads[e]` to `tails[e]` and is of kind
    `kinds[e]`: first come the kinds of `relations`, then, in the same order, their inverses.
    Edges are sorted by kind, head and tail.
    """

    items: IdMap
    entities: IdMap
    people: int
    relations: tuple[str, ...]
    heads: IntArray
    kinds: IntArray
    tails: IntArray

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.items) + len(self.entities) + self.people

    @property
    def counts(self) -> IntArray:
        """The edges of each kind, inverses included."""
        return np.bincount(self.kinds, minlength=2 * len(self.relations))

    @property
    def first_person(self) -> int:
        """The node of the first person; those of the others follow."""
        return len(self.items) + len(self.entities)


def network(items: IdMap, people: Interactions | None, graph: Graph | None) -> Network:
    """Return who chose what, the facts of a graph, or both, as one graph over these items.

    Both together are the collaborative knowledge graph of Wang et al. (2019). An item without an
    entity has no facts; entities linked to items that are not in `items` are entities. The last
    relation is `CHOSE`, from people to items, whether or not `people` are given. Raises
    ValueError if `people` have other items.
    """
    if people is not None and people.items != items:
        raise ValueError("people and the network have different items; they must be the same")
    node, entities = _nodes(graph, items)
    relations = (*(() if graph is None else graph.relations), CHOSE)
    none = np.empty(0, np.int64)
    heads, kinds, tails = (none, none, none) if graph is None else _facts(graph, node)
    if people is not None:
        heads = np.append(heads, people.user + len(items) + len(entities))
        kinds = np.append(kinds, np.full(len(people), len(relations) - 1))
        tails = np.append(tails, people.item)
    both = (
        np.append(heads, tails),
        np.append(kinds, kinds + len(relations)),
        np.append(tails, heads),
    )
    order = np.lexsort((both[2], both[0], both[1]))
    return Network(
        items,
        entities,
        0 if people is None else len(people.users),
        relations,
        both[0][order],
        both[1][order],
        both[2][order],
    )


def adjacency(net: Network) -> Csr:
    """Return CSR (nodes, nodes), 1 where an edge of whatever kind runs: symmetric."""
    return weighted(net, np.ones(len(net.heads), np.float32)).sign()


def weighted(net: Network, weights: FloatArray) -> Csr:
    """Return CSR (nodes, nodes) of the edges' weights, summed over edges of the same two nodes."""
    size = len(net)
    matrix = sparse.csr_array((weights, (net.heads, net.tails)), shape=(size, size))
    matrix.sum_duplicates()
    return matrix


def normalised(matrix: Csr) -> Csr:
    """Return D^-1/2 A D^-1/2, D the sums of the rows of a symmetric matrix A.

    Rows without entries stay without. Source: Kipf and Welling (2017), without self-loops, as He
    et al. (2020) use it.
    """
    degree = np.asarray(matrix.sum(axis=1), np.float64)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    scaled = sparse.csr_array(matrix.multiply(scale[:, None]).multiply(scale[None]))
    return scaled.astype(np.float32)


def walk(net: Network) -> FloatArray:
    """Return, per edge, the probability of taking it among the edges of its kind from its head.

    `weighted(net, walk(net))` is the sum over relations of D_r^-1 A_r.
    """
    size = len(net)
    of = net.kinds * size + net.heads
    _, where, counts = np.unique(of, return_inverse=True, return_counts=True)
    shares: npt.NDArray[np.float32] = (1 / counts[where]).astype(np.float32)
    return shares


def _nodes(graph: Graph | None, items: IdMap) -> tuple[IntArray, IdMap]:
    """Return the node of each entity of the graph, and the entities that are not items."""
    if graph is None:
        return np.empty(0, np.int64), IdMap([], "entity")
    node = np.full(len(graph.entities), -1)
    place = items.find(graph.linked)
    node[graph.linked_to[place >= 0]] = place[place >= 0]
    other = np.flatnonzero(node < 0)
    node[other] = len(items) + np.arange(len(other))
    return node, graph.entities.take(other)


def _facts(graph: Graph, node: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    return node[graph.heads], graph.kinds, node[graph.tails]

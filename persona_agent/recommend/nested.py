"""The nested model: personas x relations x likelihoods, each combination one setting of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from persona_agent.errors import InputError
from persona_agent.recommend.data import Csr, Histories, HistoryLike, Interactions, as_histories
from persona_agent.recommend.explain import Explanation, Reason
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import packed, unpacked
from persona_agent.recommend.layers import shares
from persona_agent.recommend.likelihoods import Likelihood, knowing_nothing, likelihood
from persona_agent.recommend.network import Network, adjacency, network, normalised
from persona_agent.recommend.neural import Neural, dense, shuffled
from persona_agent.recommend.paths import Edges, reasons, strongest_paths
from persona_agent.recommend.personas import explain_by_persona
from persona_agent.recommend.propagation import as_tensor, spread
from persona_agent.recommend.training import Parameters, Tensor, snapshot
from persona_agent.types import FloatArray

Relation: TypeAlias = Literal["none", "interactions", "graph", "graph_only"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
LONGEST_PATH = 2  # edges: own item - entity - item
FACTS = "fact."  # begins the names of what paths are found by
TINY = 1e-12  # keeps a history that dropout has emptied from dividing by zero


@dataclass(kw_only=True)
class Nested(Neural):
    """Scores an item by those of a person's personas that like it, over items that relate.

    Items: e = sum over l = 0..layers of A^l E, A the normalised graph of `relation`, E learned
    for items and entities, users starting at 0; LightGCN takes the mean, which shrinks what is
    learned by how many layers there are. Personas come from the history x, so that nobody needs a
    row: item i belongs to persona k with c_ik = softmax_k(cos(e_i, m_k) / temperature), and
    p_k = W [sum_i x_i c_ik e_i |x| / sqrt(sum_i x_i^2 c_ik^2)] + offset; the root makes a persona
    of few items as long as one of all. Score: sum_k a_k r_k + bias with r_k = p_k . e_i and
    a = softmax_k(sharpness r).

    One persona without relations is a linear Mult-DAE with tied weights; "interactions" adds
    users as LightGCN does, "graph" facts as well, "graph_only" facts alone. Everything starts
    where it means nothing (W at identity, bias at popularity, sharpness at 1), and
    `weight_decay` pulls it back there; E starts at random and is pulled to 0. The defaults are
    what did best on MovieLens (docs/results/stack.md).
    """

    learning_rate: float = 6.5e-3
    weight_decay: float = 7e-4
    relation: Relation = "none"
    personas: int = 1
    likelihood: Likelihood = "gaussian"
    weight: float = 1.5
    dimensions: int = 64
    layers: int = 2
    dropout: float = 0.6
    temperature: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("personas", "dimensions", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("temperature", "weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.relation not in RELATIONS:
            raise ValueError(
                f"relation is {self.relation!r}; it must be one of {', '.join(RELATIONS)}"
            )
        likelihood(self.likelihood)

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        import torch

        net = related(data, graph, self.relation)
        count, width = len(data.items), self.dimensions
        learned = {
            "table": torch.randn(count + len(net.entities), width) / math.sqrt(width),
            "mix": torch.zeros(width, width),
            "offset": torch.zeros(width),
            "bias": torch.zeros(count),
        }
        if self.personas > 1:
            learned["prototypes"] = torch.randn(self.personas, width)
            learned["sharpness"] = torch.zeros(())
        given = {"popularity": knowing_nothing(self.likelihood, shares(data), self.weight)}
        if len(net.heads):
            edges = normalised(adjacency(net))
            given["adjacency"] = as_tensor(edges, self.place)
            given |= _facts(net, edges)
        return {name: one.to(self.place).requires_grad_() for name, one in learned.items()} | {
            name: one.to(self.place) for name, one in given.items()
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        import torch.nn.functional as F

        negative_log = likelihood(self.likelihood, self.weight)
        people = data.histories()
        for rows in shuffled(len(people), self.batch):
            chosen = dense(people.take(rows), self.place)
            inputs = F.dropout(F.normalize(chosen, dim=1), self.dropout)
            yield negative_log(self.forward(self.arrays(parameters), inputs), chosen)

    def serving(self, parameters: Parameters) -> Parameters:
        import torch

        with torch.no_grad():
            made = snapshot(self.arrays(parameters))
        return made | {name: one for name, one in parameters.items() if name.startswith(FACTS)}

    def explain(self, history: Sequence[str], item: str, *, top: int | None = 5) -> Explanation:
        """Return the responsible persona, its attention, and the own items that support it.

        The other personas follow. One persona explains nothing: then the reasons are the strongest
        paths of facts from the own items (`paths`), and where there are none the own items, by
        how much the score falls without each.
        """
        if history and self.personas > 1:
            return explain_by_persona(self, history, item, top=top)
        alone = super().explain(history, item, top=top)
        paths = self.paths(history, item, top=top)
        return replace(alone, reasons=tuple(paths), rest=0.0) if paths else alone

    def paths(self, history: Sequence[str], item: str, *, top: int | None = 5) -> list[Reason]:
        """Return the strongest paths of facts from items of the history to `item`.

        Two facts at most, such as item - maker - item; a path's weight is the product of its edges
        in the normalised graph, so that an entity of few items says more than one of many.
        """
        fitted = self._known()
        if f"{FACTS}heads" not in fitted.arrays:
            return []
        kept = {
            name.removeprefix(FACTS): one.cpu().numpy()
            for name, one in fitted.arrays.items()
            if name.startswith(FACTS)
        }
        entities = unpacked(kept["entities"])
        begin = np.zeros(len(fitted.items) + len(entities), np.float32)
        begin[fitted.items.positions(list(history))] = 1
        (target,) = fitted.items.positions([item])
        begin[target] = 0
        edges = Edges(kept["heads"], kept["kinds"], kept["tails"], kept["weights"])
        found = strongest_paths(edges, begin, int(target), longest=LONGEST_PATH, top=top)
        return reasons(found, fitted.items, entities, unpacked(kept["relations"]))

    def attention(self, histories: HistoryLike) -> FloatArray:
        """Return (people, personas, items), as `PersonaModel` promises."""
        import torch
        import torch.nn.functional as F

        arrays = self._known().arrays
        people = as_histories(histories, self.items)
        with torch.inference_mode():
            inputs = F.normalize(dense(people, self.place), dim=1)
            liked = persona_scores(personas(arrays, inputs, self.temperature), arrays["items"])
            if self.personas > 1:
                liked = arrays["sharpness"] * liked
            shares: FloatArray = liked.softmax(dim=1).cpu().numpy()
        return shares

    def item_vectors(self) -> FloatArray:
        """Return (items, dimensions), in the order of `items`: after the steps over the graph."""
        vectors: FloatArray = self._known().arrays["items"].cpu().numpy()
        return vectors

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        import torch.nn.functional as F

        return self.forward(arrays, F.normalize(dense(histories, self.place), dim=1))

    def arrays(self, parameters: Parameters) -> Parameters:
        """Return what scoring needs, by the names of the equations, with gradients."""
        import torch

        width = self.dimensions
        made = {
            "items": self.spread(parameters),
            "mix": torch.eye(width, device=self.place) + parameters["mix"],
            "offset": parameters["offset"],
            "bias": parameters["popularity"] + parameters["bias"],
        }
        if self.personas > 1:
            made["prototypes"] = parameters["prototypes"]
            made["sharpness"] = parameters["sharpness"].exp()
        return made

    def spread(self, parameters: Parameters) -> Tensor:
        """Return e (items, dimensions): the items after `layers` steps over the graph."""
        import torch

        table, count = parameters["table"], len(parameters["bias"])
        if "adjacency" not in parameters:
            return table[:count]
        edges = parameters["adjacency"]
        people = edges.shape[0] - len(table)
        layer = torch.cat([table, table.new_zeros(people, table.shape[1])])
        total = table[:count]
        for _ in range(self.layers):
            layer = spread(edges, layer)
            total = total + layer[:count]
        return total

    def forward(self, arrays: Parameters, inputs: Tensor) -> Tensor:
        """Return scores (people, items) of histories (people, items) of any length."""
        liked = persona_scores(personas(arrays, inputs, self.temperature), arrays["items"])
        if self.personas == 1:
            return liked[:, 0] + arrays["bias"]
        return joined(liked, arrays["sharpness"]) + arrays["bias"]


def memberships(arrays: Parameters, temperature: float) -> Tensor:
    """Return c (items, personas): to which personas an item belongs; rows sum to 1."""
    import torch.nn.functional as F

    items, prototypes = arrays["items"], arrays["prototypes"]
    cosines = F.normalize(items, dim=1) @ F.normalize(prototypes, dim=1).T
    return (cosines / temperature).softmax(dim=1)


def personas(arrays: Parameters, inputs: Tensor, temperature: float) -> Tensor:
    """Return p (people, personas, dimensions) of histories (people, items)."""
    import torch.nn.functional as F

    items = arrays["items"]
    if "prototypes" not in arrays:
        return F.linear(inputs @ items, arrays["mix"], arrays["offset"])[:, None]
    shares = memberships(arrays, temperature)
    parts = (shares[:, :, None] * items[:, None, :]).flatten(1)
    summed = (inputs @ parts).view(len(inputs), shares.shape[1], -1)
    squares = inputs**2
    own = squares @ shares**2
    length = ((squares.sum(dim=1, keepdim=True) + TINY) / (own + TINY)).sqrt()
    return F.linear(summed * length[:, :, None], arrays["mix"], arrays["offset"])


def persona_scores(people: Tensor, items: Tensor) -> Tensor:
    """Return r (people, personas, items): how each persona likes each item."""
    return (people.flatten(0, 1) @ items.T).view(*people.shape[:2], -1)


def joined(liked: Tensor, sharpness: Tensor) -> Tensor:
    """Return sum_k softmax_k(sharpness r)_k r_k (people, items): a smooth maximum over personas.

    It lies between max_k r_k - log(K) / sharpness and max_k r_k.
    """
    return ((sharpness * liked).softmax(dim=1) * liked).sum(dim=1)


def related(data: Interactions, graph: Graph | None, relation: Relation) -> Network:
    """Return the graph of this relation: edges of interactions, of facts, of both, or none.

    Raises InputError if facts are due and none are given.
    """
    with_facts = relation in ("graph", "graph_only")
    if with_facts and graph is None:
        raise InputError(f"relation {relation!r} learns from a graph; give one to fit")
    with_people = relation in ("interactions", "graph")
    return network(data.items, data if with_people else None, graph if with_facts else None)


def _facts(net: Network, normalised_edges: Csr) -> Parameters:
    """Return the facts of the graph with their weights, for paths; nothing if there are none."""
    import torch

    is_fact = (net.heads < net.first_person) & (net.tails < net.first_person)
    if not is_fact.any():
        return {}
    heads, tails = net.heads[is_fact], net.tails[is_fact]
    weights = np.asarray(normalised_edges[heads, tails], np.float32)
    arrays = {
        "heads": heads,
        "kinds": net.kinds[is_fact],
        "tails": tails,
        "weights": weights,
        "entities": packed(net.entities),
        "relations": packed(net.relations),
    }
    return {f"{FACTS}{name}": torch.from_numpy(one) for name, one in arrays.items()}

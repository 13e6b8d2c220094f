"""KGAT: vectors of people, items and entities, spread over facts by attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import sparse

from persona_agent.recommend import choices, transr
from persona_agent.recommend.data import Csr, Histories, Interactions
from persona_agent.recommend.estimator import estimator
from persona_agent.recommend.explain import Explanation, strongest
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import packed, unpacked
from persona_agent.recommend.layers import layer, linear
from persona_agent.recommend.network import network, walk
from persona_agent.recommend.neural import Neural, dense
from persona_agent.recommend.paths import Edges, reasons, strongest_paths
from persona_agent.recommend.propagation import as_tensor, spread
from persona_agent.recommend.training import Parameters, Tensor, snapshot
from persona_agent.recommend.turns import Turns

LAYERS = ("sum.", "product.")  # how the names of the layers' weights begin
TEXTS = ("entities", "relations")
Operators: TypeAlias = Sequence[tuple[Tensor, Tensor]]  # a layer's matrix and its transpose


@dataclass(kw_only=True)
class KGAT(Neural):
    """s_ui = e*_u . e*_i over the graph of people, items, entities and their relations.

    e* = [e^(0); e^(1) / |e^(1)|; ..; e^(L) / |e^(L)|] with

        e_h^(l+1) = LeakyReLU(W1 (e_h^(l) + n_h) + b1) + LeakyReLU(W2 (e_h^(l) * n_h) + b2)
        n_h = sum over edges (h, r, t) of pi(h, r, t) e_t^(l)

    and dropout after each layer, of the widths `layers`. An epoch is a pass over the choices
    (`choices.losses`), one over the edges (`transr.losses`), and pi anew from TransR
    (`transr.attention`), without gradient. In the first epoch pi is a random walk
    (`network.walk`). `l2` penalises the e* that a step touches.

    Everybody is folded in, known in training or not, as a head of edges to the history H,
    without changing the others' layers. This is the propagation itself, but that
    e_u^(0) = [sum over H of e*_i / sqrt(|H|); mean over H of e*_i] M, with M by ridge regression
    of what training found (`estimator`). So no row of a person is kept.

    The defaults are the paper's but for one: vectors do not start from those of BPR-MF. RecBole
    1.2.1 has `layers` = (64,), `edges` = "facts" (TransR learns from facts alone, without inverses
    and without choices), `batch` = 2048 and `learning_rate` = .001.
    Source: Wang et al. (2019), KGAT: Knowledge Graph Attention Network for Recommendation.
    """

    batch: int = 1024
    learning_rate: float = 1e-4
    width: int = 64
    relation_width: int = 64
    layers: Sequence[int] = (64, 32, 16)
    dropout: float = 0.1
    slope: float = 0.2
    l2: float = 1e-5
    loss: choices.Loss = "bpr"
    edge_batch: int = 2048
    edge_l2: float = 1e-5
    edges: Literal["all", "facts"] = "all"
    longest_path: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers = tuple(self.layers)
        for name in ("width", "relation_width", "edge_batch", "longest_path"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.layers or min(self.layers) < 1:
            raise ValueError(f"layers are {self.layers}; one width or more, above 0, are due")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.edges not in ("all", "facts"):
            raise ValueError(f"edges is {self.edges!r}; it must be all or facts")
        choices.check(self.loss)

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        import torch

        if graph is None:
            raise ValueError(
                "KGAT learns from facts, and no graph was given; call fit(interactions, graph) "
                "with a Graph, such as Graph.of(triples, links)"
            )
        net = network(data.items, data, graph)
        kinds = 2 * len(net.relations)
        widths = [self.width, *self.layers]
        parameters = {
            "nodes": self._fresh(len(net), self.width),
            "maps": self._fresh(kinds, self.width, self.relation_width),
            "shifts": self._fresh(kinds, self.relation_width),
        }
        for number, (width, to) in enumerate(zip(widths, self.layers, strict=False)):
            parameters |= layer(f"sum.{number}", width, to, self.place)
            parameters |= layer(f"product.{number}", width, to, self.place)
        given = {
            "heads": net.heads,
            "kinds": net.kinds,
            "tails": net.tails,
            "counts": net.counts,
            "weights": walk(net),
            "seen": np.r_[: len(net.items), net.first_person : len(net)],
            "sizes": np.array([len(net.items), net.people]),
            "entities": packed(net.entities),
            "relations": packed(net.relations),
        }
        return parameters | {
            name: torch.tensor(one, device=self.place) for name, one in given.items()
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        """Yield both passes' losses, then put the attention that follows in `parameters`."""
        import torch

        operators = self.operators(parameters)
        items = len(data.items)

        def vectors() -> choices.Vectors:
            both = torch.cat(self.represent(parameters, operators, self.dropout)[1], dim=1)
            return choices.Vectors(both[items:], both[:items], (both[items:], both[:items]))

        yield from choices.losses(
            self.loss, vectors, data, batch=self.batch, l2=self.l2, place=self.place
        )
        counts = parameters["counts"].tolist()
        nodes, maps, shifts = (parameters[name] for name in ("nodes", "maps", "shifts"))
        heads, kinds, tails = (parameters[name] for name in ("heads", "kinds", "tails"))
        taught = sum(counts[: len(counts) // 2 - 1]) if self.edges == "facts" else len(heads)
        yield from transr.losses(
            nodes,
            heads[:taught],
            kinds[:taught],
            tails[:taught],
            maps,
            shifts,
            batch=self.edge_batch,
            l2=self.edge_l2,
        )
        with torch.no_grad():
            parameters["weights"] = transr.attention(nodes, heads, tails, counts, maps, shifts)

    def optimiser(self, learned: list[Tensor]) -> Any:  # Any: torch's, whose types are not read
        """Return an Adam for each of the two passes."""
        return Turns(learned, super().optimiser)

    def serving(self, parameters: Parameters) -> Parameters:
        import torch

        items, people = parameters["sizes"].tolist()
        counts = parameters["counts"].tolist()
        kinds = len(counts) // 2
        choice = slice(sum(counts[: kinds - 1]), sum(counts[:kinds]))
        first = len(parameters["nodes"]) - people
        with torch.no_grad():
            inner, outer = self.represent(parameters, self.operators(parameters), 0.0)
            final = torch.cat(outer, dim=1)[:items]
            owner = parameters["heads"][choice] - first
            total = final.new_zeros(people, final.shape[1])
            total.index_add_(0, owner, final[parameters["tails"][choice]])
            size = torch.bincount(owner, minlength=people).clamp(min=1)
            learned = parameters["nodes"][first:]
            arrays = {
                "items": final,
                "map": estimator(_features(total, size[:, None]), learned),
                "chose.map": parameters["maps"][kinds - 1],
                "chose.shift": parameters["shifts"][kinds - 1],
                **{f"inner.{number}": one[:items] for number, one in enumerate(inner)},
            }
        fact = parameters["kinds"] % kinds < kinds - 1
        for name in ("heads", "kinds", "tails", "weights"):
            arrays[f"fact.{name}"] = parameters[name][fact]
        for name, one in parameters.items():
            if name in TEXTS or name.startswith(LAYERS):
                arrays[name] = one
        return snapshot(arrays)

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        import torch
        import torch.nn.functional as F

        person, weights = self.fold(arrays, histories)
        outer = [person]
        for number in range(len(self.layers)):
            near = weights @ arrays[f"inner.{number}"]
            person = self.interact(arrays, number, person, near)
            outer.append(F.normalize(person))
        return torch.cat(outer, dim=1) @ arrays["items"].T

    def fold(self, arrays: Parameters, histories: Histories) -> tuple[Tensor, Tensor]:
        """Return e_u^(0) (rows, width), and the attention (rows, items) to the history's items."""
        chosen, items = dense(histories, self.place), arrays["inner.0"]
        features = _features(chosen @ arrays["items"], chosen.sum(dim=1, keepdim=True))
        person = features @ arrays["map"]
        query = (person @ arrays["chose.map"] + arrays["chose.shift"]).tanh()
        logits = query @ (items @ arrays["chose.map"]).T
        return person, logits.masked_fill(chosen == 0, float("-inf")).softmax(dim=1)

    def explain(self, history: Sequence[str], item: str, *, top: int | None = 5) -> Explanation:
        """Return the strongest paths of facts from the own items to this one.

        A path of at most `longest_path` edges weighs how much the score falls without its own
        item, times the attention along its edges: how much matters by the score itself, and by
        which way is what the attention adds. Paths run through facts only, never through other
        people. Where there is none from an item that matters, the own items are returned alone,
        as by `Neural.explain`.
        """
        alone = super().explain(history, item, top=None)
        fitted = self._known()
        arrays = {name: one.cpu().numpy() for name, one in fitted.arrays.items()}
        entities = unpacked(arrays["entities"])
        begin = np.zeros(len(fitted.items) + len(entities), np.float32)
        for one in alone.reasons:
            if one.kind == "item" and one.ids[0] != item:
                begin[fitted.items.positions(one.ids)] = max(one.weight, 0)
        (target,) = fitted.items.positions([item])
        edges = Edges(*(arrays[f"fact.{name}"] for name in ("heads", "kinds", "tails", "weights")))
        found = strongest_paths(edges, begin, int(target), longest=self.longest_path, top=top)
        named = reasons(found, fitted.items, entities, unpacked(arrays["relations"]))
        return strongest(
            item, alone.score, named or list(alone.reasons), top, additive=alone.additive
        )

    def operators(self, parameters: Parameters) -> Operators:
        """Return each layer's matrix (rows, nodes) by the weights of now.

        Its first rows gather the neighbours of all nodes, or in the last layer of items and people
        only: nobody needs those of entities. Its last rows copy the items and people. One product
        for both, because its gradient is the one large table of a step.
        """
        size = len(parameters["nodes"])
        weights, heads, tails, seen = (
            parameters[name].cpu().numpy() for name in ("weights", "heads", "tails", "seen")
        )
        whole = sparse.csr_array((weights, (heads, tails)), shape=(size, size))
        ones = np.ones(len(seen), np.float32)
        copies = sparse.csr_array((ones, (np.arange(len(seen)), seen)), shape=(len(seen), size))
        inner, last = (self._operator(one, copies) for one in (whole, whole[seen]))
        return [inner] * (len(self.layers) - 1) + [last]

    def represent(
        self, parameters: Parameters, operators: Operators, dropout: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what each layer gets, of all nodes, and the parts of e* of items and people."""
        import torch.nn.functional as F

        nodes, seen = parameters["nodes"], len(parameters["seen"])
        inner, outer = [], []
        for number, (matrix, transposed) in enumerate(operators):
            both = spread(matrix, nodes, transposed)
            near, own = both[:-seen], both[-seen:]
            inner.append(nodes)
            outer.append(F.normalize(own) if number else own)
            own = own if number == len(operators) - 1 else nodes
            nodes = F.dropout(self.interact(parameters, number, own, near), dropout)
        return inner, [*outer, F.normalize(nodes)]

    def interact(self, arrays: Parameters, number: int, own: Tensor, near: Tensor) -> Tensor:
        """Return the bi-interaction of vectors with those of their neighbours."""
        import torch.nn.functional as F

        both = linear(arrays, f"sum.{number}", own + near)
        product = linear(arrays, f"product.{number}", own * near)
        return F.leaky_relu(both, self.slope) + F.leaky_relu(product, self.slope)

    def _fresh(self, *shape: int) -> Tensor:
        """Return a learned table by Xavier, or one for each of the first of three sizes."""
        import torch

        bound = math.sqrt(6 / sum(shape[-2:]))
        return torch.empty(*shape).uniform_(-bound, bound).to(self.place).requires_grad_()

    def _operator(self, gather: Csr, copies: Csr) -> tuple[Tensor, Tensor]:
        both = sparse.csr_array(sparse.vstack([gather, copies]))
        return as_tensor(both, self.place), as_tensor(sparse.csr_array(both.T), self.place)


def _features(total: Tensor, size: Tensor) -> Tensor:
    """Return what is known of people by the sums of their items' vectors and their numbers."""
    import torch

    return torch.cat([total / size.sqrt(), total / size], dim=1)

"""LightGCN: vectors of people and items, smoothed over the graph of who chose what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from persona_agent.recommend import choices, people
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.network import adjacency, network, normalised
from persona_agent.recommend.neural import Neural, dense
from persona_agent.recommend.propagation import as_tensor, mean_of_layers, spread
from persona_agent.recommend.training import Parameters, Tensor


@dataclass(kw_only=True)
class LightGCN(Neural):
    """s_ui = e_u . e_i, both the mean of layers 0..`layers` of e^(l+1) = D^-1/2 A D^-1/2 e^(l).

    `layers` = 0 is plain matrix factorisation. `loss` is "bpr" as in the paper (`batch` counts
    choices) or "softmax" over all items (`batch` counts people); see `choices.losses`. `l2`
    penalises the vectors of layer 0 that a step touches. The graph of facts is not used.

    Anybody is folded in, with the history H and without changing the items' layers:

        e_u = (e_u^(0) + f_u) / (layers + 1),  f_u = sum over l < layers, i in H of
              e_i^(l) / sqrt(|H| d_i)

    which is the propagation itself where the history is the one trained on. e_u^(0) is the
    learned one for a person so trained, and else a ridge regression of it on f_u
    (`people.serving`; with `layers` = 0, on f_u of one layer).
    Source: He et al. (2020), LightGCN: Simplifying and Powering Graph Convolution Network for
    Recommendation.
    """

    batch: int = 2048
    width: int = 64
    layers: int = 3
    l2: float = 1e-4
    loss: choices.Loss = "bpr"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.layers < 0:
            raise ValueError(
                f"width is {self.width} and layers {self.layers}; at least 1 and 0 are due"
            )
        choices.check(self.loss)

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        import torch

        net = network(data.items, data, None)
        table = 0.1 * torch.randn(len(net), self.width)
        return {
            "table": table.to(self.place).requires_grad_(),
            "matrix": as_tensor(normalised(adjacency(net)), self.place),
            "counts": torch.from_numpy(data.matrix.sum(axis=0)).to(self.place),
            "keys": torch.from_numpy(people.keys(data.histories())).to(self.place),
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        items, table = len(data.items), parameters["table"]

        def vectors() -> choices.Vectors:
            mean = mean_of_layers(parameters["matrix"], table, self.layers)
            return choices.Vectors(mean[items:], mean[:items], (table[items:], table[:items]))

        return choices.losses(
            self.loss, vectors, data, batch=self.batch, l2=self.l2, place=self.place
        )

    def serving(self, parameters: Parameters) -> Parameters:
        import torch

        items, matrix = len(parameters["counts"]), parameters["matrix"]
        with torch.no_grad():
            layers = [parameters["table"]]
            for _ in range(self.layers):
                layers.append(spread(matrix, layers[-1]))
            source = sum(layers[: max(self.layers, 1)])
            scale = parameters["counts"].clamp(min=1).rsqrt() * (parameters["counts"] > 0)
            return {
                "items": sum(layers)[:items] / len(layers),
                "source": source[:items] * scale[:, None],
                **people.serving(
                    parameters["keys"], layers[0][items:], spread(matrix, source)[items:]
                ),
            }

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        chosen = dense(histories, self.place)
        gathered = chosen @ arrays["source"] / chosen.sum(dim=1, keepdim=True).sqrt()
        person = people.start(arrays, histories, gathered)
        if self.layers:
            person = person + gathered
        return person / (self.layers + 1) @ arrays["items"].T

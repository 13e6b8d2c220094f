"""LightGCN: vectors of people and items, smoothed over the graph of who chose what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from persona_agent.recommend import choices
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.estimator import estimator
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

    Everybody is folded in, known in training or not, by the history H and without changing the
    items' layers, d_i being how many chose i in training:

        e_u = (e_u^(0) + f_u) / (layers + 1)
        f_u = sum over l < layers and i in H of e_i^(l) / sqrt(|H| d_i)
        e_u^(0) = [f_u; mean over H of e_i] M,  M by ridge regression of what training found

    which is the propagation itself, but for e_u^(0) (`estimator`). On MovieLens-100K the
    estimate ranks as well as the learned e_u^(0), for people whom M was not fitted on too. So no
    row of a person is kept.
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

        links = adjacency(network(data.items, data, None))
        tables = {"items": len(data.items), "people": len(data.users)}
        return {
            **{
                name: (0.1 * torch.randn(size, self.width)).to(self.place).requires_grad_()
                for name, size in tables.items()
            },
            "matrix": as_tensor(normalised(links), self.place),
            "degree": torch.tensor(links.sum(axis=1), dtype=torch.float32, device=self.place),
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        import torch

        items, people = parameters["items"], parameters["people"]

        def vectors() -> choices.Vectors:
            mean = mean_of_layers(parameters["matrix"], torch.cat([items, people]), self.layers)
            return choices.Vectors(mean[len(items) :], mean[: len(items)], (people, items))

        return choices.losses(
            self.loss, vectors, data, batch=self.batch, l2=self.l2, place=self.place
        )

    def serving(self, parameters: Parameters) -> Parameters:
        import torch

        matrix, degree, count = parameters["matrix"], parameters["degree"], len(parameters["items"])
        root = degree.clamp(min=1).sqrt()[:, None]
        with torch.no_grad():
            layers = [torch.cat([parameters["items"], parameters["people"]])]
            for _ in range(self.layers):
                layers.append(spread(matrix, layers[-1]))
            mean = sum(layers) / len(layers)
            source = sum(layers[: max(self.layers, 1)])
            gathered = spread(matrix, source)[count:]
            average = (spread(matrix, mean * root) / root)[count:]
            features = torch.cat([gathered, average], dim=1)
            return {
                "items": mean[:count],
                "source": (source / root * (degree > 0)[:, None])[:count],
                "map": estimator(features, parameters["people"]),
            }

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        import torch

        chosen = dense(histories, self.place)
        size = chosen.sum(dim=1, keepdim=True)
        gathered = chosen @ arrays["source"] / size.sqrt()
        average = chosen @ arrays["items"] / size
        person = torch.cat([gathered, average], dim=1) @ arrays["map"]
        if self.layers:
            person = person + gathered
        return person / (self.layers + 1) @ arrays["items"].T

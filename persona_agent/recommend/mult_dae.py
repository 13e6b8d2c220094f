"""Mult-DAE: a denoising autoencoder of what people choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.layers import linear, read, reader, shares, writer
from persona_agent.recommend.likelihoods import Likelihood, knowing_nothing, likelihood
from persona_agent.recommend.neural import Neural, dense, shuffled
from persona_agent.recommend.training import Parameters, Tensor


@dataclass(kw_only=True)
class MultDAE(Neural):
    """I -> hidden -> I with tanh between, trained to restore histories of which it sees a part.

    The input is x / |x| with dropout; the loss is -log likelihood. `weight` counts only for the
    Gaussian likelihood. The default `weight_decay` is the paper's penalty .01 / 500 sum W^2.
    Source: Liang et al. (2018), Variational Autoencoders for Collaborative Filtering.
    """

    hidden: int = 200
    dropout: float = 0.5
    likelihood: Likelihood = "multinomial"
    weight: float = 1.0
    weight_decay: float = 4e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        likelihood(self.likelihood, self.weight)

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        items = len(data.items)
        bias = knowing_nothing(self.likelihood, shares(data), self.weight)
        return {
            **reader("encode", items, self.hidden, self.place),
            **writer("items", self.hidden, bias, self.place),
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        people, negative_log = data.histories(), likelihood(self.likelihood, self.weight)
        for rows in shuffled(len(people), self.batch):
            batch = people.take(rows)
            hidden = read(parameters, "encode", batch, self.dropout).tanh()
            yield negative_log(linear(parameters, "items", hidden), dense(batch, self.place))

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        return linear(arrays, "items", read(arrays, "encode", histories).tanh())

"""Mult-VAE: a variational autoencoder of what people choose, under three likelihoods."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.latent import divergence, draw
from persona_agent.recommend.layers import layer, linear, read, reader, shares, writer
from persona_agent.recommend.likelihoods import Likelihood, knowing_nothing, likelihood
from persona_agent.recommend.neural import Neural, dense, shuffled
from persona_agent.recommend.training import Parameters, Tensor


@dataclass(kw_only=True)
class MultVAE(Neural):
    """Encoder I -> hidden -> 2 latent, decoder latent -> hidden -> I, tanh between.

    The input is x / |x| with dropout; loss = -log likelihood + beta KL(q(z|x) || N(0, 1)), where
    beta rises evenly from 0 to `beta` over the first `anneal_steps` steps. Scoring uses the mean
    of z. `weight` counts only for the Gaussian likelihood. Source: Liang et al. (2018),
    Variational Autoencoders for Collaborative Filtering, which anneals over 40,000 steps of 500
    people; with noise of unit deviation, as there, and not the .01 of RecBole's version.
    """

    hidden: int = 600
    latent: int = 200
    dropout: float = 0.5
    beta: float = 0.2
    anneal_steps: int = 2_000
    likelihood: Likelihood = "multinomial"
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.beta < 0:
            raise ValueError(f"beta is {self.beta}; it must be 0 or more")
        if self.anneal_steps < 1:
            raise ValueError(f"anneal_steps is {self.anneal_steps}; it must be at least 1")
        likelihood(self.likelihood, self.weight)

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        items = len(data.items)
        bias = knowing_nothing(self.likelihood, shares(data), self.weight)
        return {
            **reader("encode", items, self.hidden, self.place),
            **layer("posterior", self.hidden, 2 * self.latent, self.place),
            **layer("decode", self.latent, self.hidden, self.place),
            **writer("items", self.hidden, bias, self.place),
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        people, negative_log = data.histories(), likelihood(self.likelihood, self.weight)
        step = (epoch - 1) * math.ceil(len(people) / self.batch)
        for rows in shuffled(len(people), self.batch):
            batch = people.take(rows)
            mean, log_variance = self.encode(parameters, batch, self.dropout)
            scores = decode(parameters, draw(mean, log_variance))
            beta = self.beta * min(1, step / self.anneal_steps)
            yield (
                negative_log(scores, dense(batch, self.place))
                + beta * divergence(mean, log_variance).mean()
            )
            step += 1

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        mean, _ = self.encode(arrays, histories)
        return decode(arrays, mean)

    def encode(
        self, arrays: Parameters, histories: Histories, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of z, each (people, latent)."""
        hidden = read(arrays, "encode", histories, dropout).tanh()
        both = linear(arrays, "posterior", hidden)
        return both[:, : self.latent], both[:, self.latent :]


def decode(arrays: Parameters, latent: Tensor) -> Tensor:
    """Return scores (people, items) of latent positions (people, latent)."""
    return linear(arrays, "items", linear(arrays, "decode", latent).tanh())

"""Mult-VAE: a variational autoencoder of what people choose, under three likelihoods."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.likelihoods import Likelihood, likelihood
from persona_agent.recommend.neural import Neural, dense, shuffled
from persona_agent.recommend.training import Parameters, Tensor


@dataclass(kw_only=True)
class MultVAE(Neural):
    """Encoder I -> hidden -> 2 latent, decoder latent -> hidden -> I, tanh between.

    The input is x / |x| with dropout; loss = -log likelihood + beta KL(q(z|x) || N(0, 1)), beta
    rising to `beta` over `anneal_steps` steps. Scoring uses the mean of z. `weight` counts only
    for the Gaussian likelihood. Source: Liang et al. (2018), Variational Autoencoders for
    Collaborative Filtering, with the noise of unit deviation that RecBole's version lacks.
    """

    hidden: int = 600
    latent: int = 200
    dropout: float = 0.5
    beta: float = 0.2
    anneal_steps: int = 20_000
    likelihood: Likelihood = "multinomial"
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        likelihood(self.likelihood)

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        items = len(data.items)
        return {
            **layer("encode", items, self.hidden, self.place),
            **layer("posterior", self.hidden, 2 * self.latent, self.place),
            **layer("decode", self.latent, self.hidden, self.place),
            **layer("items", self.hidden, items, self.place),
        }

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        import torch.nn.functional as F

        people = data.histories()
        negative_log = likelihood(self.likelihood, self.weight)
        step = (epoch - 1) * math.ceil(len(people) / self.batch)
        for rows in shuffled(len(people), self.batch):
            chosen = dense(people.take(rows), self.place)
            mean, log_variance = self.encode(parameters, F.dropout(unit(chosen), self.dropout))
            latent = (
                mean + (0.5 * log_variance).exp() * log_variance.new_empty(mean.shape).normal_()
            )
            beta = min(self.beta, step / self.anneal_steps)
            divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1).mean()
            yield negative_log(decode(parameters, latent), chosen) + beta * divergence
            step += 1

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        mean, _ = self.encode(arrays, unit(dense(histories, self.place)))
        return decode(arrays, mean)

    def encode(self, arrays: Parameters, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of z, each (people, latent)."""
        both = linear(arrays, "posterior", linear(arrays, "encode", inputs).tanh())
        return both[:, : self.latent], both[:, self.latent :]


def decode(arrays: Parameters, latent: Tensor) -> Tensor:
    """Return scores (people, items) of latent positions (people, latent)."""
    return linear(arrays, "items", linear(arrays, "decode", latent).tanh())


def unit(chosen: Tensor) -> Tensor:
    """Return the rows at length 1."""
    import torch.nn.functional as F

    return F.normalize(chosen, dim=1)


def layer(name: str, inputs: int, outputs: int, place: str) -> Parameters:
    """Return a fresh linear layer: weight (outputs, inputs) by Xavier, bias almost zero."""
    import torch
    from torch import nn

    weight = nn.init.xavier_uniform_(torch.empty(outputs, inputs))
    bias = nn.init.trunc_normal_(torch.empty(outputs), std=0.001, a=-0.002, b=0.002)
    return {
        f"{name}.weight": weight.to(place).requires_grad_(),
        f"{name}.bias": bias.to(place).requires_grad_(),
    }


def linear(arrays: Parameters, name: str, inputs: Tensor) -> Tensor:
    """Return inputs (rows, inputs) through the layer of this name."""
    import torch.nn.functional as F

    return F.linear(inputs, arrays[f"{name}.weight"], arrays[f"{name}.bias"])

"""RecVAE: a variational autoencoder whose prior remembers what its encoder said an epoch ago."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.latent import draw, log_density
from persona_agent.recommend.layers import layer, linear, norm, read, reader, shares, writer
from persona_agent.recommend.likelihoods import knowing_nothing, multinomial
from persona_agent.recommend.neural import Neural, dense, shuffled
from persona_agent.recommend.training import Parameters, Tensor, snapshot

STANDARD, OLD, WIDE = 0.15, 0.75, 0.1  # the prior's shares of N(0, 1), the old encoder, N(0, e^10)
WIDE_LOG_VARIANCE = 10.0
BLOCKS = 5  # of the encoder, each of which reads all before it
EPSILON = 0.1  # of the layer norms
DECODER = ("items.weight", "items.bias")
BEFORE = "old."  # begins the names of the old encoder's parameters


@dataclass(kw_only=True)
class RecVAE(Neural):
    """A deep encoder, a linear decoder, and a prior that holds the encoder near its last self.

    The encoder is five blocks, norm(swish(layer(last) + sum of all before)). The loss is
    -multinomial log likelihood + gamma |x| (log q(z|x) - log p(z|x)) with z drawn from q; the
    prior p mixes N(0, 1), the encoder of the epoch before and a wide normal, by dimension as in
    the authors' code. An epoch is `encoder_passes` over all people that train the encoder alone,
    on inputs with dropout, and `decoder_passes` without dropout that train the decoder alone.
    Source: Shenbin et al. (2020), RecVAE.
    """

    hidden: int = 600
    latent: int = 200
    dropout: float = 0.5
    gamma: float = 0.005
    encoder_passes: int = 3
    decoder_passes: int = 1
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.gamma < 0:
            raise ValueError(f"gamma is {self.gamma}; it must be 0 or more")
        for name in ("encoder_passes", "decoder_passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        items = len(data.items)
        bias = knowing_nothing("multinomial", shares(data))
        encoder = reader("encode1", items, self.hidden, self.place)
        for block in range(2, BLOCKS + 1):
            encoder |= layer(f"encode{block}", self.hidden, self.hidden, self.place)
        for block in range(1, BLOCKS + 1):
            encoder |= norm(f"norm{block}", self.hidden, self.place)
        encoder |= layer("posterior", self.hidden, 2 * self.latent, self.place)
        old = {f"{BEFORE}{name}": one for name, one in snapshot(encoder).items()}
        return {**encoder, **writer("items", self.latent, bias, self.place), **old}

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        people = data.histories()
        encoder = {one for one in parameters if f"{BEFORE}{one}" in parameters}
        old = {one: parameters[f"{BEFORE}{one}"] for one in encoder}
        held = _held(parameters, DECODER)
        for _ in range(self.encoder_passes):
            for rows in shuffled(len(people), self.batch):
                yield self._encoder_loss(held, old, people.take(rows))
        for name, one in old.items():
            one.copy_(parameters[name].detach())
        held = _held(parameters, encoder)
        for _ in range(self.decoder_passes):
            for rows in shuffled(len(people), self.batch):
                yield self._decoder_loss(held, people.take(rows))

    def serving(self, parameters: Parameters) -> Parameters:
        return snapshot(
            {name: one for name, one in parameters.items() if not name.startswith(BEFORE)}
        )

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        mean, _ = self.encode(arrays, histories)
        return linear(arrays, "items", mean)

    def encode(
        self, arrays: Parameters, histories: Histories, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of z, each (people, latent)."""
        total = _block(arrays, 1, read(arrays, "encode1", histories, dropout))
        last = total
        for number in range(2, BLOCKS + 1):
            last = _block(arrays, number, linear(arrays, f"encode{number}", last) + total)
            total = total + last
        both = linear(arrays, "posterior", last)
        return both[:, : self.latent], both[:, self.latent :]

    def _encoder_loss(self, arrays: Parameters, old: Parameters, batch: Histories) -> Tensor:
        import torch

        mean, log_variance = self.encode(arrays, batch, self.dropout)
        latent = draw(mean, log_variance)
        with torch.no_grad():
            before = self.encode(old, batch)
        sizes = torch.from_numpy(np.diff(batch.matrix.indptr)).to(latent.device)
        apart = (log_density(latent, mean, log_variance) - log_prior(latent, *before)).sum(dim=1)
        negative_log = multinomial(linear(arrays, "items", latent), dense(batch, self.place))
        return negative_log + self.gamma * (sizes * apart).mean()

    def _decoder_loss(self, arrays: Parameters, batch: Histories) -> Tensor:
        """Without the divergence, on which the decoder has no influence."""
        latent = draw(*self.encode(arrays, batch))
        return multinomial(linear(arrays, "items", latent), dense(batch, self.place))


def log_prior(latent: Tensor, old_mean: Tensor, old_log_variance: Tensor) -> Tensor:
    """Return the log density of the composite prior, each dimension by itself."""
    import torch

    zero = torch.zeros_like(latent)
    parts = (
        log_density(latent, zero, zero) + math.log(STANDARD),
        log_density(latent, old_mean, old_log_variance) + math.log(OLD),
        log_density(latent, zero, zero + WIDE_LOG_VARIANCE) + math.log(WIDE),
    )
    return torch.stack(parts).logsumexp(dim=0)


def _block(arrays: Parameters, number: int, inputs: Tensor) -> Tensor:
    import torch.nn.functional as F

    weight, bias = arrays[f"norm{number}.weight"], arrays[f"norm{number}.bias"]
    return F.layer_norm(F.silu(inputs), weight.shape, weight, bias, EPSILON)


def _held(parameters: Parameters, names: Iterable[str]) -> Parameters:
    """Return the parameters, those of these names as they are but beyond the reach of gradients.

    An optimiser leaves alone what has no gradient, so that one serves both halves of an epoch.
    """
    return {**parameters, **{name: parameters[name].detach() for name in names}}

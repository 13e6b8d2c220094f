"""Normal distributions of latent positions, one a person: draws, densities and divergence.

Means and log variances are (people, latent), each dimension by itself.
"""

from __future__ import annotations

import math

from persona_agent.recommend.training import Tensor


def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return one draw of each, through which gradients flow to both arguments."""
    import torch

    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def log_density(at: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log density of each dimension at `at`."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (at - mean) ** 2 * (-log_variance).exp())


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return (people,): KL(N(mean, variance) || N(0, 1)) in nats, 0 if both are equal."""
    return 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1)

"""How models that learn a vector of each person come to one of anybody else."""

from __future__ import annotations

from persona_agent.recommend.training import Tensor

RIDGE = 1e-2  # of the mean square of each feature


def estimator(features: Tensor, learned: Tensor) -> Tensor:
    """Return the map (width, to) that estimates a person's learned vector as features @ map.

    `features` (people, width) are what is known of anybody by his history, `learned` (people, to)
    what training found. Ridge regression, with a penalty of `RIDGE` times each feature's own sum
    of squares, so that the scale of a feature does not matter.
    """
    import torch

    features, learned = features.double(), learned.double()
    square = features.T @ features
    scale = square.diagonal()
    penalty = torch.diag(RIDGE * scale.clamp(min=float(scale.max()) * 1e-9 or 1.0))
    return torch.linalg.solve(square + penalty, features.T @ learned).float()

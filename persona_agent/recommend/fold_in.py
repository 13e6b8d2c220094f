"""Persona vectors for people whom training has not seen, with everything else frozen.

A fixed number of steps for a whole batch of people: what is found depends on each history alone.
"""

from __future__ import annotations

from collections.abc import Callable

from persona_agent.recommend.training import Parameters, Tensor

SHARPNESS = 10.0  # of soft k-means: cosines are multiplied by it
ROUNDS = 5


def curvature(items: Tensor, popularity: Tensor) -> Parameters:
    """Return the directions of item vectors (items, width) and how much items differ along each.

    `basis` (width, width) has the directions as columns, `variance` (width,) is along them, items
    weighted by `popularity` (items,): the Hessian of one choice under a softmax that chooses items
    as often as people do.
    """
    import torch

    share = (popularity / popularity.sum()).double()
    centred = items.double() - share @ items.double()
    variance, basis = torch.linalg.eigh((centred * share[:, None]).T @ centred)
    return {"basis": basis.to(items.dtype), "variance": variance.clamp(min=0).to(items.dtype)}


def gather(vectors: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Return (people, count, items): the share of each of `count` groups of a person in each item.

    Soft k-means by cosine over the item vectors (items, width) of each history, started from its
    most typical item and those farthest from the ones before; then all items get shares. Equal
    distances: the lower position. A history with fewer items repeats its first.
    """
    import torch
    import torch.nn.functional as F

    unit = F.normalize(vectors, dim=1)
    unseen, taken = chosen == 0, chosen > 1
    distance = -(F.normalize(chosen @ unit, dim=1) @ unit.T)
    centres = unit.new_zeros(len(chosen), 0, unit.shape[1])
    for _ in range(count):
        place = distance.masked_fill(taken, 2.0).masked_fill(unseen, 3.0).argmin(dim=1)
        taken = taken.scatter(1, place[:, None], True)
        centres = torch.cat([centres, unit[place][:, None]], dim=1)
        distance = (centres @ unit.T).amax(dim=1)
    for _ in range(ROUNDS):
        shares = (SHARPNESS * (centres @ unit.T)).softmax(dim=1)
        centres = F.normalize((shares * chosen[:, None]) @ unit, dim=-1)
    return (SHARPNESS * (centres @ unit.T)).softmax(dim=1)


def descend(
    slope: Callable[[Tensor], Tensor],
    start: Tensor,
    step: Callable[[Tensor], Tensor],
    steps: int,
) -> Tensor:
    """Return what so many steps of Nesterov's accelerated descent make of `start`.

    `slope` returns the gradient at a point, and `step` what to subtract for a gradient.
    """
    at, last = start, start
    for number in range(steps):
        ahead = at + number / (number + 3) * (at - last)
        last, at = at, ahead - step(slope(ahead))
    return at

"""Likelihoods of what a person chose, given a score of every item: losses over full catalogues.

`scores` and `chosen` are (people, items), `chosen` is 1 where the item is in the history. Each
returns the mean over people of the negative log likelihood summed over items, up to a constant.
Source: Liang et al. (2018), section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from persona_agent.recommend.training import Tensor

Likelihood: TypeAlias = Literal["multinomial", "gaussian", "logistic"]


def multinomial(scores: Tensor, chosen: Tensor) -> Tensor:
    """Return -sum_i x_i log softmax(s)_i: items compete for the person's choices."""
    return -(chosen * scores.log_softmax(dim=1)).sum(dim=1).mean()


def logistic(scores: Tensor, chosen: Tensor) -> Tensor:
    """Return the cross entropy of each item's own yes or no."""
    import torch.nn.functional as F

    return F.binary_cross_entropy_with_logits(scores, chosen, reduction="sum") / len(chosen)


def gaussian(scores: Tensor, chosen: Tensor, weight: float = 1.0) -> Tensor:
    """Return half the squared error, in which a chosen item counts `weight` times."""
    return 0.5 * ((1 + (weight - 1) * chosen) * (scores - chosen) ** 2).sum(dim=1).mean()


def knowing_nothing(name: Likelihood, chosen: Tensor, weight: float = 1.0) -> Tensor:
    """Return (items,): the scores that are likeliest for people of whom nothing is known.

    `chosen` is each item's share of people, above 0 and below 1. A decoder whose bias begins here
    has learned what is popular before its first step.
    """
    if name == "multinomial":
        return chosen.log()
    if name == "logistic":
        return chosen.logit()
    return weight * chosen / (1 + (weight - 1) * chosen)


def likelihood(name: Likelihood, weight: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of this name; `weight` is the Gaussian's. Raises ValueError for others."""
    if not weight > 0:
        raise ValueError(f"weight is {weight}; it must be above 0")
    known: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "multinomial": multinomial,
        "logistic": logistic,
        "gaussian": lambda scores, chosen: gaussian(scores, chosen, weight),
    }
    if name not in known:
        raise ValueError(f"likelihood is {name!r}; it must be one of {', '.join(known)}")
    return known[name]

"""Where a person starts in models that learn a vector for each: learned, or estimated.

A person is known by name and history together. Anybody else, and a known person whose history has
changed, starts from an estimate by the items of the history, so that what was removed from a
history leaves no trace in the recommendations.
"""

from __future__ import annotations

import hashlib

import numpy as np

from persona_agent.recommend.data import Histories
from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.training import Parameters, Tensor

RIDGE = 1e-2  # of the mean square of a feature


def keys(histories: Histories) -> IntArray:
    """Return a hash of each row's name and items; of the items alone where nobody is named.

    Neither the order of the items nor that of the rows matters. Names and histories cannot be
    read from it.
    """
    mixed = _mix(np.arange(1, len(histories.items) + 1, dtype=np.uint64))
    matrix = histories.matrix
    summed = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed[matrix.indices])])
    history = summed[matrix.indptr[1:]] - summed[matrix.indptr[:-1]]
    if histories.users is not None:
        names = [
            hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            for one in histories.users
        ]
        history = _mix(history ^ np.frombuffer(b"".join(names), np.uint64))
    found: IntArray = history.view(np.int64)
    return found


def serving(known: Tensor, learned: Tensor, features: Tensor) -> Parameters:
    """Return the arrays of which `start` needs: people's keys and vectors, and the estimate.

    `known` are the keys of people (people,), `learned` their vectors, and `features` (people,
    width) what will be known of others too. The estimate is features @ map, the map being the
    ridge regression of the learned vectors on the features.
    """
    import torch

    order = known.argsort()
    square = features.T @ features
    penalty = RIDGE * square.diagonal().mean() * torch.eye(len(square), device=square.device)
    estimate = torch.linalg.solve(square + penalty, features.T @ learned)
    return {"people.keys": known[order], "people": learned[order], "people.map": estimate}


def start(arrays: Parameters, histories: Histories, features: Tensor) -> Tensor:
    """Return the vector (rows, width) that each row starts from."""
    import torch

    estimated = features @ arrays["people.map"]
    if histories.users is None:
        return estimated
    known = arrays["people.keys"]
    key = torch.from_numpy(keys(histories)).to(known.device)
    place = torch.searchsorted(known, key).clamp(max=len(known) - 1)
    return torch.where((known[place] == key)[:, None], arrays["people"][place], estimated)


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Return 64-bit numbers that look random (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))

"""Candidates for a sampled softmax: one item that somebody chose and some that he did not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from persona_agent.errors import NotEnoughData
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.neural import shuffled
from persona_agent.recommend.training import Tensor


def candidates(
    data: Interactions, batch: int, negatives: int, place: str
) -> Iterator[tuple[IntArray, Tensor]]:
    """Yield user positions (rows,) and item positions (rows, 1 + negatives) on `place`.

    Each interaction gives its user one row an epoch; the first column is any of the user's items,
    the others are different items that the user has not chosen, all uniformly. Source: the
    authors' code of AMP-CF (2023). By torch's generator. Raises NotEnoughData if somebody has
    chosen so much that too few items are left.
    """
    import torch

    people = data.histories()
    counts = np.diff(people.matrix.indptr)
    left = len(data.items) - int(counts.max(initial=0))
    if left < negatives:
        raise NotEnoughData(f"somebody leaves {left} items unchosen; negatives is {negatives}")
    for rows in shuffled(len(data), batch):
        users = data.user[rows]
        at = (torch.rand(len(users), dtype=torch.float64).numpy() * counts[users]).astype(np.int64)
        positive = torch.from_numpy(data.item[people.matrix.indptr[users] + at].copy())
        draw = torch.rand(len(users), len(data.items))
        draw[torch.from_numpy(people.matrix[users].toarray() > 0)] = -1
        yield users, torch.cat([positive[:, None], draw.topk(negatives).indices], 1).to(place)

"""TransE: vectors of nodes in which a relation is a step from head to tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.neural import shuffled
from persona_agent.types import FloatArray


@dataclass(frozen=True, slots=True)
class TransE:
    """Settings: margin ranking of |h + r - t| (L1) against a random head or tail, by Adam.

    Source: Bordes et al. (2013), Translating Embeddings for Modeling Multi-relational Data; nodes
    are put back to length 1 before each epoch, as there.
    """

    width: int = 64
    margin: float = 1.0
    epochs: int = 60
    batch: int = 4096
    learning_rate: float = 0.01
    seed: int = 0

    def fit(
        self,
        heads: IntArray,
        relations: IntArray,
        tails: IntArray,
        nodes: int,
        *,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> FloatArray:
        """Return float32 (nodes, width) vectors of length 1; `on_epoch` gets number and mean loss.

        A random head or tail may happen to make a true fact: it counts as false.
        """
        import torch
        import torch.nn.functional as F

        if not len(heads):
            raise ValueError("there are no facts; one or more are due")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            node = torch.nn.init.xavier_uniform_(torch.empty(nodes, self.width)).requires_grad_()
            kinds = int(relations.max()) + 1
            step = torch.nn.init.xavier_uniform_(torch.empty(kinds, self.width))
            step = F.normalize(step).requires_grad_()
            optimiser = torch.optim.Adam([node, step], lr=self.learning_rate, fused=True)
            facts = torch.from_numpy(np.stack([heads, relations, tails]))
            for epoch in range(1, self.epochs + 1):
                with torch.no_grad():
                    node.copy_(F.normalize(node))
                total, count = 0.0, 0
                for rows in shuffled(len(heads), self.batch):
                    head, relation, tail = facts[:, torch.from_numpy(rows)]
                    other = torch.randint(nodes, head.shape)
                    at_head = torch.rand(len(head)) < 0.5
                    false_head = torch.where(at_head, other, head)
                    false_tail = torch.where(at_head, tail, other)
                    found = F.embedding(torch.cat([head, tail, false_head, false_tail]), node)
                    h, t, h_false, t_false = found.chunk(4)
                    r = F.embedding(relation, step)
                    true = (h + r - t).abs().sum(dim=1)
                    false = (h_false + r - t_false).abs().sum(dim=1)
                    loss = F.relu(self.margin + true - false).mean()
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
                    total, count = total + float(loss.detach()), count + 1
                if on_epoch is not None:
                    on_epoch(epoch, total / count)
            vectors: FloatArray = F.normalize(node.detach()).numpy()
        return vectors

"""RP3beta: a walk of three steps over users and items, less drawn to what all like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from persona_agent.recommend.data import Csr
from persona_agent.recommend.knn import ROWS, nearest
from persona_agent.recommend.linear import Linear, Weights


@dataclass
class RP3beta(Linear):
    """Probability of walking from an item to a user to another item, over count^beta.

    weight(i -> j) = (sum over users of P(user | i)^alpha P(j | user)^alpha) / count_j^beta, of
    which each item i keeps the `neighbours` largest.
    Source: Paudel et al. (2017), Updatable, Accurate, Diverse, and Scalable Recommendations.
    """

    alpha: float = 0.6
    beta: float = 0.6
    neighbours: int = 200

    def __post_init__(self) -> None:
        if self.alpha <= 0 or self.beta < 0 or self.neighbours < 1:
            raise ValueError(
                f"alpha is {self.alpha}, beta {self.beta} and neighbours {self.neighbours}; above "
                "0, at least 0 and at least 1 are due"
            )

    def learn(self, matrix: Csr) -> Weights:
        counts = np.asarray(matrix.sum(axis=0), np.float32)
        to_item = _walk(matrix, self.alpha)
        to_user = _walk(sparse.csr_array(matrix.T), self.alpha)
        penalty = np.maximum(counts, 1) ** np.float32(-self.beta)
        blocks = []
        for begin in range(0, to_user.shape[0], ROWS):
            block = sparse.csr_array(to_user[begin : begin + ROWS] @ to_item)
            block.data *= penalty[block.indices]
            blocks.append(nearest(block, self.neighbours, without_diagonal_from=begin))
        return sparse.csr_array(sparse.vstack(blocks))


def _walk(matrix: Csr, alpha: float) -> Csr:
    """Return the probabilities of a step from each row, to the power of alpha."""
    degree = np.maximum(np.diff(matrix.indptr), 1).astype(np.float32)
    step = matrix.copy()
    step.data = np.repeat((1 / degree) ** np.float32(alpha), np.diff(matrix.indptr))
    return step

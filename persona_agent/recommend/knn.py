"""Item-kNN: each item speaks for the items that the same people chose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from persona_agent.recommend.data import Csr
from persona_agent.recommend.linear import Linear, Weights
from persona_agent.recommend.ranking import top_k

ROWS = 1024


@dataclass
class ItemKNN(Linear):
    """Cosine of two items' users, shrunk, from the `neighbours` nearest of each item.

    similarity(i, j) = both / (sqrt(count_i count_j) + shrinkage): what few people chose is
    trusted less. An item's score is summed over those of its own nearest neighbours that are in
    the history. Source: Sarwar et al. (2001); shrinkage as in Ferrari Dacrema et al. (2019).
    """

    neighbours: int = 100
    shrinkage: float = 10.0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.shrinkage < 0:
            raise ValueError(
                f"neighbours is {self.neighbours} and shrinkage {self.shrinkage}; at least 1 and "
                "0 are due"
            )

    def learn(self, matrix: Csr) -> Weights:
        items = sparse.csr_array(matrix.T)
        norms = np.sqrt(np.diff(items.indptr)).astype(np.float32)
        blocks = []
        for begin in range(0, items.shape[0], ROWS):
            both = sparse.csr_array(items[begin : begin + ROWS] @ matrix)
            own = np.repeat(norms[begin : begin + ROWS], np.diff(both.indptr))
            both.data /= own * norms[both.indices] + np.float32(self.shrinkage)
            blocks.append(nearest(both, self.neighbours, without_diagonal_from=begin))
        # rows are the recommended items: transposed, a history's row reaches them
        return sparse.csr_array(sparse.vstack(blocks).T)


def nearest(rows: Csr, count: int, *, without_diagonal_from: int) -> Csr:
    """Return CSR with the `count` largest entries of each row; ties: the lower column.

    Row r is item `without_diagonal_from` + r, whose own column is left out, as are zeros.
    """
    dense = rows.toarray()
    own = np.arange(len(dense))
    dense[own, own + without_diagonal_from] = 0
    dense[dense <= 0] = -np.inf
    columns, values = top_k(dense, min(count, dense.shape[1]))
    kept = columns >= 0
    owner = np.repeat(own, kept.sum(axis=1))
    return sparse.csr_array(
        (values[kept], (owner, columns[kept])), shape=dense.shape, dtype=np.float32
    )

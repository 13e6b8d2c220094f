"""EASE: the linear autoencoder without a diagonal, in closed form; the simple bar to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

from persona_agent.recommend.data import Csr
from persona_agent.recommend.linear import Linear, Weights

MANY = 4000  # items from which a second thread saves more than seconds


@dataclass
class EASE(Linear):
    """Least squares from the other items: B = I - P diag(1/P), P = (X'X + l2 I)^-1.

    Time grows with items^3 and memory with items^2: 1,500 items take .1 s, 5,000 take 3 s, and
    10,000 would take some 25 s and 2.5 GB. Source: Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data.
    """

    l2: float = 250.0

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise ValueError(f"l2 is {self.l2}; it must be above 0, or the inverse may not exist")

    def learn(self, matrix: Csr) -> Weights:
        gram = (matrix.T @ matrix).toarray(order="F").astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.l2
        # Cholesky, because the matrix is symmetric and positive definite: half the work of an LU
        # inverse. float64, because the condition number grows with the data: 50 for
        # MovieLens-100K, where float32 would do, thousands for a hundred times the users, where
        # it would not. The result is kept as float32. One thread unless it is large: beside other
        # busy processes the threads wait for each other, and .1 s became 15 s.
        with threadpool_limits(None if len(gram) > MANY else 1):
            factor, failed = linalg.lapack.dpotrf(gram, lower=1, clean=1, overwrite_a=1)
            inverse, singular = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        if failed or singular:
            raise ValueError(f"l2 = {self.l2} is too small for this data: the matrix is singular")
        inverse += np.tril(inverse, -1).T  # dpotri fills one triangle
        weights = (inverse / -np.diag(inverse)).astype(np.float32)
        np.fill_diagonal(weights, 0)
        return np.ascontiguousarray(weights)

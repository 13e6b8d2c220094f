"""Popularity: the same items for everybody, and the least that any model must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from persona_agent.recommend.data import Csr
from persona_agent.recommend.linear import Linear, Weights


@dataclass
class Popularity(Linear):
    """Scores an item by the number of people who chose it."""

    def learn(self, matrix: Csr) -> Weights:
        size = matrix.shape[1]
        return sparse.csr_array((size, size), dtype=np.float32)

    @property
    def uses_history(self) -> bool:
        return False

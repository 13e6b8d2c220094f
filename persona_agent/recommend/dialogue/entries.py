"""The entries of sparse matrices: whose row they are in, values at other places, some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from persona_agent.recommend.data import BoolArray, Csr
from persona_agent.recommend.ids import IntArray


def row_of(matrix: Csr) -> IntArray:
    """Return the row of each entry, in the order of the entries."""
    rows: IntArray = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows


def values_at(values: Csr, places: Csr) -> npt.NDArray[np.float32]:
    """Return the value of one matrix at each entry of another of its shape, 0 where it has none."""
    found = np.zeros(places.nnz, np.float32)
    if not values.nnz or not places.nnz:
        return found
    if not values.has_sorted_indices:
        values = values.sorted_indices()
    width = values.shape[1]
    there = row_of(values) * width + values.indices
    wanted = row_of(places) * width + places.indices
    at = np.searchsorted(there, wanted)
    at[at == len(there)] = 0
    same = there[at] == wanted
    found[same] = values.data[at[same]]
    return found


def keep(matrix: Csr, kept: BoolArray) -> Csr:
    """Return the matrix with only these of its entries."""
    before = np.concatenate([[0], np.cumsum(kept)])
    return sparse.csr_array(
        (matrix.data[kept], matrix.indices[kept], before[matrix.indptr]), shape=matrix.shape
    )


def with_data(matrix: Csr, data: npt.NDArray[Any]) -> Csr:  # Any: numbers of any kind
    """Return a matrix of these values at the entries of another."""
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)

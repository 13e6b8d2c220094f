"""The entries of sparse matrices: whose row they are in, values at other places, some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from persona_agent.recommend.data import BoolArray, Csr, binary
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

Values = npt.NDArray[Any]  # Any: whole numbers where ties must be exact, else floats


def row_of(matrix: Csr) -> IntArray:
    """Return the row of each entry, in the order of the entries."""
    rows: IntArray = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows


def values_at(values: Csr, places: Csr) -> FloatArray:
    """Return the value of one matrix at each entry of another of its shape, 0 where it has none.

    The indices of `places` are sorted.
    """
    found = np.zeros(places.nnz, np.float32)
    if not values.nnz or not places.nnz:
        return found
    if values.nnz < places.nnz:  # whichever is shorter is looked up in the other
        there, wanted = _keys(places), _keys(values)
        at = np.searchsorted(there, wanted)
        at[at == len(there)] = 0
        same = there[at] == wanted
        found[at[same]] = values.data[same]
        return found
    if not values.has_sorted_indices:
        values = values.sorted_indices()
    there, wanted = _keys(values), _keys(places)
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


def with_data(matrix: Csr, data: Values) -> Csr:
    """Return a matrix of these values at the entries of another."""
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def replaced(matrix: Csr, rows: IntArray, those: Csr) -> Csr:
    """Return the matrix with some rows, ascending, replaced by those of another."""
    lengths = np.diff(matrix.indptr)
    changes = np.zeros(len(lengths), bool)
    changes[rows] = True
    stays = np.repeat(~changes, lengths)
    lengths[rows] = np.diff(those.indptr)
    comes = np.repeat(changes, lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.empty(len(comes), matrix.indices.dtype)
    data = np.empty(len(comes), matrix.data.dtype)
    for made, old, new in (
        (indices, matrix.indices, those.indices),
        (data, matrix.data, those.data),
    ):
        made[~comes], made[comes] = old[stays], new
    return sparse.csr_array((data, indices, indptr), shape=matrix.shape)


def looked_up(matrix: Csr, rows: IntArray, columns: IntArray) -> Values:
    """Return the values at these places, 0 where there is none; indices are sorted."""
    there, wanted = _keys(matrix), rows * matrix.shape[1] + columns
    if not len(there):
        return np.zeros(wanted.shape, matrix.data.dtype)
    at = np.searchsorted(there, wanted)
    at[at == len(there)] = 0
    return np.where(there[at] == wanted, matrix.data[at], matrix.data.dtype.type(0))


def where(matrix: Csr, value: int) -> Csr:
    """Return CSR of 1 where a matrix has this value, which is not 0."""
    found = keep(matrix, matrix.data == value)
    return with_data(found, np.ones(found.nnz, np.float32))


def listed(columns: IntArray, shape: tuple[int, int], none: int) -> Csr:
    """Return CSR of 1 at the columns that each row lists, `none` filling up."""
    owner, place = np.nonzero(columns != none)
    return binary(owner, columns[owner, place], shape)


def _keys(matrix: Csr) -> IntArray:
    keys: IntArray = row_of(matrix) * matrix.shape[1] + matrix.indices
    return keys

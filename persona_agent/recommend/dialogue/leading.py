"""The best columns of each row of a sparse matrix, by a value for each of its entries."""

from __future__ import annotations

import numpy as np

from persona_agent.recommend.data import Csr
from persona_agent.recommend.dialogue.entries import Values, row_of
from persona_agent.recommend.dialogue.state import NONE
from persona_agent.recommend.ids import IntArray


def leading(matrix: Csr, values: Values, k: int) -> IntArray:
    """Return (rows, k): the columns of each row's largest values, best first, NONE filling up.

    `values` has one number an entry. Equal values: the lower column first.
    """
    entries = leading_entries(matrix, values, k)
    columns: IntArray = np.append(matrix.indices, NONE).astype(np.int64)[entries]
    return columns


def leading_entries(matrix: Csr, values: Values, k: int) -> IntArray:
    """Return (rows, k): which entries `leading` takes the columns of, -1 filling up."""
    found = np.full((matrix.shape[0], k), -1, np.int64)
    if not matrix.nnz:
        return found
    owner, entry = row_of(matrix), np.arange(matrix.nnz)
    if k == 1:  # by maxima, which is quicker than sorting
        some = np.flatnonzero(np.diff(matrix.indptr))
        best = np.maximum.reduceat(values, matrix.indptr[some])
        entry = np.flatnonzero(values == np.repeat(best, np.diff(matrix.indptr)[some]))
        owner = owner[entry]
    order = np.lexsort((matrix.indices[entry], -values[entry], owner))
    owner, entry = owner[order], entry[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = place < k
    found[owner[kept], place[kept]] = entry[kept]
    return found

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
    order = _order(owner, values[entry], matrix.indices[entry])
    owner, entry = owner[order], entry[order]
    first = np.searchsorted(owner, np.arange(matrix.shape[0]))
    place = np.arange(len(owner)) - first[owner]
    kept = place < k
    found[owner[kept], place[kept]] = entry[kept]
    return found


def _order(owner: IntArray, values: Values, columns: IntArray) -> IntArray:
    """Return the order by row, then value, the largest first, then column.

    Where row, value and column fit into one number of 64 bits, that is sorted: four times as quick.
    """
    wide = int(columns.max()).bit_length()
    fits = int(owner[-1]).bit_length() + 32 + wide <= 64
    if values.dtype == np.float32:
        bits = (values + np.float32(0)).view(np.uint32)  # + 0: of two zeros one is negative
        negative = bits >> 31 == 1
        falling = np.where(negative, bits, ~(bits | np.uint32(1 << 31))).astype(np.uint64)
    elif values.dtype.kind == "i" and values.min() > -(2**31) and values.max() < 2**31:
        falling = (2**31 - values.astype(np.int64)).astype(np.uint64)
    else:
        fits = False
    if not fits:
        order: IntArray = np.lexsort((columns, -values, owner))
        return order
    keys = (owner.astype(np.uint64) << np.uint64(32 + wide)) | (falling << np.uint64(wide))
    return np.argsort(keys | columns.astype(np.uint64))

"""The best columns of each row, against sorting row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from persona_agent.recommend.dialogue.leading import leading
from persona_agent.recommend.dialogue.state import NONE

VALUES = (-0.0, 0.0, -1.5, 1.5, 2.0**-149, -(2.0**-149), 3e38, -3e38)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@given(data=st.data(), k=st.integers(1, 5))
def test_rows_are_sorted_by_value_and_equals_by_column(
    kind: type[np.generic], data: st.DataObject, k: int
) -> None:
    shape = (4, 6)
    held = data.draw(st.lists(st.booleans(), min_size=24, max_size=24))
    places = np.flatnonzero(held)
    matrix = sparse.csr_array((np.ones(len(places)), np.divmod(places, 6)), shape=shape)
    drawn: st.SearchStrategy[float] = st.sampled_from(VALUES)
    if kind is np.int64:
        drawn = st.sampled_from((-1, 0, 1, 2**31 - 1, -(2**31) + 1, 2**40))  # 2^40: no 32 bits
    size = len(places)
    values = np.array(data.draw(st.lists(drawn, min_size=size, max_size=size)), kind)

    found = leading(matrix, values, k)

    for row in range(shape[0]):
        own = range(matrix.indptr[row], matrix.indptr[row + 1])
        best = sorted(own, key=lambda at: (-values[at], matrix.indices[at]))[:k]
        columns = [int(matrix.indices[at]) for at in best]
        assert found[row].tolist() == columns + [NONE] * (k - len(columns))

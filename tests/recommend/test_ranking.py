"""The best k of scores, with ties and ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_agent.recommend.data import Histories
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.ranking import rank, top_k

FEW = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])  # few values, hence many ties


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 12)), elements=FEW),
    st.integers(1, 12),
)
def test_the_best_are_those_of_a_stable_sort(scores: np.ndarray, k: int) -> None:
    k = min(k, scores.shape[1])
    positions, best = top_k(scores.copy(), k)
    for row in range(len(scores)):
        order = sorted(range(scores.shape[1]), key=lambda column: -scores[row, column])[:k]
        assert best[row].tolist() == scores[row, order].tolist()
        assert positions[row].tolist() == [
            -1 if np.isneginf(scores[row, column]) else column for column in order
        ]


@pytest.mark.parametrize("columns", [255, 600, 1447, 5000])
@pytest.mark.parametrize("k", [1, 20, 130])
def test_long_rows_too_with_and_without_many_ties(columns: int, k: int) -> None:
    rng = np.random.default_rng(columns + k)
    tied = rng.choice([-np.inf, 0.0, 0.5, 2.0], (6, columns), p=[0.3, 0.6, 0.09, 0.01])
    scores = np.vstack([tied, rng.normal(size=(6, columns)), np.zeros((1, columns))])
    scores[0, : columns - k // 2] = -np.inf  # fewer than k are left
    scores = scores.astype(np.float32)
    positions, best = top_k(scores, k)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    wanted = np.take_along_axis(scores, order, axis=1)
    np.testing.assert_array_equal(best, wanted)
    np.testing.assert_array_equal(positions, np.where(np.isneginf(wanted), -1, order))


def test_scores_that_are_not_numbers_are_an_error_wherever_they_hide() -> None:
    scores = np.zeros((2, 50), np.float32)
    scores[1, 37] = np.nan
    with pytest.raises(ValueError, match="row 1 has scores that are NaN"):
        top_k(scores, 3)


def test_many_batches_rank_as_one() -> None:
    items = IdMap((str(one) for one in range(20)), "item")
    table = np.random.default_rng(0).normal(size=(33, 20)).astype(np.float32)
    people = Histories.of([[str(row % 20)] for row in range(33)], items)
    begun: list[int] = []

    def score(batch: Histories) -> np.ndarray:
        begun.append(len(batch))
        start = sum(begun[:-1])
        return table[start : start + len(batch)].copy()

    small = rank(score, items, people, 5, batch_bytes=4 * 20 * 10)
    assert begun == [10, 10, 10, 3]
    begun.clear()
    whole = rank(score, items, people, 5)
    assert begun == [33]
    np.testing.assert_array_equal(small.positions, whole.positions)

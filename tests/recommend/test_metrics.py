"""Metrics against numbers worked out by hand and against slow, obvious versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from persona_agent.recommend import metrics
from persona_agent.recommend.data import Histories
from persona_agent.recommend.ids import IdMap

ITEMS = IdMap((str(one) for one in range(12)), "item")
CASES = st.lists(
    st.tuples(
        st.permutations(range(12)).map(lambda order: order[:6]),
        st.sets(st.integers(0, 11), min_size=1),
        st.integers(0, 6),  # where the list ends
    ),
    min_size=1,
    max_size=6,
)


def wanted(rows: list[set[int]]) -> Histories:
    return Histories.of([[str(one) for one in row] for row in rows], ITEMS)


def naive(name: str, listed: list[int], liked: set[int], k: int) -> float:
    top = listed[:k]
    ranks = [rank for rank, item in enumerate(top, start=1) if item in liked]
    if name == "ndcg":
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(liked)) + 1))
        return sum(1 / math.log2(rank + 1) for rank in ranks) / ideal
    if name == "recall":
        return len(ranks) / len(liked)
    if name == "recall_min":
        return len(ranks) / min(k, len(liked))
    if name == "hit":
        return float(bool(ranks))
    if name == "mrr":
        return 1 / ranks[0] if ranks else 0.0
    precisions = [sum(one <= rank for one in ranks) / rank for rank in ranks]
    return sum(precisions) / min(k, len(liked))


@pytest.mark.parametrize("name", metrics.ACCURACY)
@given(cases=CASES, k=st.integers(1, 6))
def test_accuracy_is_what_the_obvious_version_says(
    name: str, cases: list[tuple[list[int], set[int], int]], k: int
) -> None:
    positions = np.array(
        [[*order[:end], *[-1] * (6 - end)] for order, _, end in cases], dtype=np.int64
    )
    sets = wanted([liked for _, liked, _ in cases])
    found = metrics.hits(positions, sets)[:, :k]
    values = metrics.ACCURACY[name](found, np.diff(sets.matrix.indptr))
    expected = [naive(name, list(order[:end]), liked, k) for order, liked, end in cases]
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_accuracy_worked_out_by_hand() -> None:
    # a list of four with hits at ranks 2 and 4, of three items to be found
    found, counts = np.array([[False, True, False, True]]), np.array([3])
    by_hand = {
        "ndcg": (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2),
        "recall": 2 / 3,
        "recall_min": 2 / 3,
        "hit": 1,
        "mrr": 1 / 2,
        "map": (1 / 2 + 2 / 4) / 3,
    }
    for name, metric in metrics.ACCURACY.items():
        assert metric(found, counts)[0] == pytest.approx(by_hand[name]), name
    assert by_hand["ndcg"] == pytest.approx(0.49819, abs=1e-5)


def test_the_two_recalls_differ_when_more_is_wanted_than_shown() -> None:
    found, counts = np.array([[True, False]]), np.array([5])
    assert metrics.recall(found, counts).tolist() == [0.2]
    assert metrics.recall_min(found, counts).tolist() == [0.5]


def test_novelty_is_mean_self_information() -> None:
    positions = np.array([[0, 1], [1, -1], [2, -1], [-1, -1]])
    counts = np.array([4, 1, 0])  # of 4 people
    assert metrics.novelty(positions, counts, users=4).tolist() == [1, 2, 2, 0]


def test_coverage_counts_each_item_once() -> None:
    assert metrics.coverage(np.array([[0, 1], [1, -1]]), items=8) == 0.25
    assert metrics.coverage(np.empty((0, 3), np.int64), items=8) == 0


def test_calibration_is_steck_s_divergence() -> None:
    past, listed = np.array([[0.7, 0.3]]), np.array([[1.0, 0.0]])
    blurred = [0.99 * 1 + 0.01 * 0.7, 0.01 * 0.3]
    by_hand = 0.7 * math.log(0.7 / blurred[0]) + 0.3 * math.log(0.3 / blurred[1])
    assert metrics.calibration(past, listed)[0] == pytest.approx(by_hand)
    assert metrics.calibration(past, past)[0] == pytest.approx(0)


def test_taste_distance_is_a_divergence_between_nothing_and_one_bit() -> None:
    one, other = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    middle = 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    half = middle + 0.5 * math.log2(1 / 0.75)
    assert metrics.taste_distance(one, other).tolist() == pytest.approx([1, half])
    assert metrics.taste_distance(other, one).tolist() == pytest.approx([1, half])
    assert metrics.taste_distance(one, one).tolist() == [0, 0]


def test_tastes_that_are_unknown_have_no_distance() -> None:
    known, unknown = np.array([[1.0, 0.0]]), np.zeros((1, 2))
    for metric in (metrics.calibration, metrics.taste_distance):
        assert np.isnan(metric(known, unknown)).all()
        assert np.isnan(metric(unknown, known)).all()


@given(CASES)
def test_shares_of_lists_and_histories_are_means_over_items_with_features(
    cases: list[tuple[list[int], set[int], int]],
) -> None:
    features = np.zeros((12, 3))
    features[:4, 0] = 1
    features[4:8] = [0, 0.5, 0.5]  # items 8 to 11 have none
    table = sparse.csr_array(features.astype(np.float32))
    positions = np.array([[*order[:end], *[-1] * (6 - end)] for order, _, end in cases])
    sets = wanted([liked for _, liked, _ in cases])

    def mean(items: list[int]) -> list[float]:
        known = [features[one] for one in items if features[one].any()]
        return np.mean(known, axis=0).tolist() if known else [0, 0, 0]

    lists = metrics.shares(positions, table)
    np.testing.assert_allclose(lists, [mean(order[:end]) for order, _, end in cases], atol=1e-6)
    past = metrics.history_shares(sets, table)
    np.testing.assert_allclose(past, [mean(sorted(liked)) for _, liked, _ in cases], atol=1e-6)


def test_entropy_is_in_bits() -> None:
    rows = np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0] * 4])
    assert metrics.entropy(rows).tolist() == [2, 0, 1, 0]

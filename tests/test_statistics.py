"""Statistics against hand-worked numbers, exact enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.eval.statistics import (
    contrast,
    detectable,
    holm,
    interaction,
    paired_t,
    sign_flip,
    with_holm,
)


def test_a_sign_flip_test_agrees_with_all_flips() -> None:
    values = np.array([0.9, 0.4, -0.1, 0.7, 0.2, 0.5, -0.3, 0.6])
    flips = np.array(list(itertools.product([-1, 1], repeat=len(values)))) @ values
    exact = (abs(flips) >= abs(values.sum()) - 1e-9).mean()
    assert sign_flip(values, draws=20_000) == pytest.approx(exact, abs=0.01)


def test_what_never_differs_has_p_one_and_p_is_never_zero() -> None:
    assert sign_flip([0.0] * 50) == 1
    assert sign_flip([1.0] * 50, draws=99) == 0.01
    assert paired_t([0.0] * 50) == 1


def test_the_two_tests_agree_on_many_users() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.15, 400)
    assert sign_flip(values, draws=20_000) == pytest.approx(paired_t(values), abs=0.01)
    with pytest.raises(ValueError, match="below 30 use sign_flip"):
        paired_t([1, 2, 3])


def test_the_user_is_the_unit_however_often_he_was_measured() -> None:
    once = contrast([0.1, 0.3, -0.2, 0.4], list("abcd"))
    thrice = contrast([0.1, 0.3, -0.2, 0.4] * 3, list("abcd") * 3)
    assert thrice.p == once.p
    assert thrice.interval.low == pytest.approx(once.interval.low)
    assert thrice.interval.high == pytest.approx(once.interval.high)
    assert (thrice.interval.users, thrice.interval.count) == (4, 12)
    assert once.interval.mean == pytest.approx(0.15)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        found = contrast(rng.normal(0.1, 1, 60), draws=500, seed=trial).interval
        covered += found.low <= 0.1 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_raises_p_and_keeps_their_order(ps: list[float]) -> None:
    named = {str(number): p for number, p in enumerate(ps)}
    found = holm(named)
    assert list(found) == list(named)
    assert all(named[name] <= found[name] <= 1 for name in named)
    for one, other in itertools.combinations(named, 2):
        assert (named[one] <= named[other]) == (found[one] <= found[other]) or (
            found[one] == found[other]
        )
    smallest = min(named, key=lambda name: named[name])
    assert found[smallest] == pytest.approx(min(1, len(ps) * named[smallest]))


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.02}) == pytest.approx(
        {"a": 0.04, "b": 0.03, "c": 0.04}
    )
    assert holm({}) == {}


def test_what_could_be_seen_is_2_8_deviations_and_3_5_with_holm_over_seven() -> None:
    assert detectable(0.1, 938) == pytest.approx(2.8 * 0.1 / math.sqrt(938), rel=0.002)
    assert detectable(1, 1, tests=7) == pytest.approx(3.53, abs=0.01)


def test_that_difference_is_seen_in_four_of_five_studies() -> None:
    rng = np.random.default_rng(2)
    truth = detectable(0.15, 200)
    seen = [paired_t(rng.normal(truth, 0.15, 200)) < 0.05 for _ in range(400)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.06)


def test_a_family_is_corrected_together() -> None:
    rng = np.random.default_rng(3)
    family = {name: contrast(rng.normal(0.05, 0.3, 100)) for name in "abc"}
    found = with_holm(family)
    assert {name: one.p_holm for name, one in found.items()} == holm(
        {name: one.p for name, one in family.items()}
    )
    assert all(found[name].detectable > family[name].detectable for name in family)


def test_an_interaction_is_what_two_factors_do_beyond_their_sum() -> None:
    neither, first, second = np.array([0.1, 0.2]), np.array([0.2, 0.2]), np.array([0.1, 0.5])
    assert interaction(first + second - neither, first, second, neither) == pytest.approx([0, 0])
    assert interaction([0.5, 0.5], first, second, neither) == pytest.approx([0.3, 0.0])
    with pytest.raises(ValueError, match="shapes"):
        interaction([0.5], first, second, neither)


def test_what_is_no_number_or_nobody_s_is_refused() -> None:
    with pytest.raises(ValueError, match="1 differences are NaN"):
        contrast([0.1, float("nan")])
    with pytest.raises(ValueError, match="2 differences and 1 users"):
        contrast([0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="one or more is due"):
        contrast([])

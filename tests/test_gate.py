"""The gate: what it accepts, and how often it is fooled."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.gate import Scores, judge, t_quantile

floats = st.floats(-5, 5, allow_nan=False)


@pytest.mark.parametrize(
    ("p", "freedom", "table"),
    [
        (0.95, 1, 6.314),
        (0.95, 2, 2.920),
        (0.95, 4, 2.132),
        (0.975, 5, 2.571),
        (0.99, 9, 2.821),
        (0.995, 11, 3.106),
        (0.9, 30, 1.310),
    ],
)
def test_the_t_quantile_agrees_with_tables(p: float, freedom: int, table: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(table, rel=0.02)


@given(st.lists(floats, min_size=2, max_size=20))
def test_a_persona_never_beats_itself(values: list[float]) -> None:
    scores = Scores(tuple(values), tuple(values))
    assert not judge(scores, scores, tried=1).accepted


@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=20), st.integers(1, 50))
def test_the_margin_never_falls_as_more_candidates_are_tried(
    pairs: list[tuple[float, float]], tried: int
) -> None:
    old = Scores(tuple(a for a, _ in pairs))
    new = Scores(tuple(b for _, b in pairs))
    few, many = judge(old, new, tried=tried), judge(old, new, tried=tried + 1)
    assert many.margin >= few.margin
    assert few.accepted or not many.accepted


def test_a_clear_gain_is_accepted_and_measured_by_likelihood_where_there_is_one() -> None:
    old = Scores((0.0,) * 8, (-2.0, -2.1, -1.9, -2.0, -2.2, -1.8, -2.0, -2.1))
    new = Scores((0.0,) * 8, tuple(value + 0.5 for value in old.loglik))
    verdict = judge(old, new, tried=4)
    assert verdict.accepted
    assert verdict.measure == "likelihood"
    assert verdict.gain == pytest.approx(0.5)
    assert judge(Scores(old.metric), Scores(new.metric), tried=4).measure == "metric"


def test_likelihood_alone_does_not_carry_a_persona_whose_metric_falls() -> None:
    old = Scores((1.0,) * 8, (-2.0,) * 8)
    new = Scores((0.0,) * 8, (-1.0,) * 8)
    verdict = judge(old, new, tried=1)
    assert not verdict.accepted
    assert "metric falls by 1.000" in verdict.reason


def test_useless_candidates_are_accepted_no_more_often_than_the_risk() -> None:
    rng = random.Random(0)
    users, accepted = 2000, 0
    for _ in range(users):
        old = Scores(tuple(rng.gauss(0, 1) for _ in range(12)))
        candidates = [
            Scores(tuple(value + rng.gauss(0, 0.5) for value in old.metric)) for _ in range(6)
        ]
        accepted += any(judge(old, new, tried=6, risk=0.1).accepted for new in candidates)
    assert accepted / users < 0.12


@pytest.mark.parametrize(
    ("old", "new", "tried", "risk", "complaint"),
    [
        (Scores((1.0, 2.0)), Scores((1.0,)), 1, 0.1, "do not pair"),
        (Scores((1.0,)), Scores((1.0,)), 1, 0.1, "needs 2 or more"),
        (Scores((1.0, 2.0)), Scores((1.0, 2.0)), 0, 0.1, "at least 1"),
        (Scores((1.0, 2.0)), Scores((1.0, 2.0)), 1, 0.7, "below 0.5"),
    ],
)
def test_nonsense_is_refused(
    old: Scores, new: Scores, tried: int, risk: float, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        judge(old, new, tried=tried, risk=risk)

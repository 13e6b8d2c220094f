"""Intervals cover, detectable effects are detected, tables and curves say what the runs hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from persona_agent.errors import NotEnoughData
from persona_agent.eval.ablation.effects import compare, curves_of, rows_of
from persona_agent.eval.ablation.run import Run
from persona_agent.eval.ablation.study import Ablation
from persona_agent.eval.statistics import contrast, detectable, sign_flip
from persona_agent.eval.tasks.task_set import TaskSet

Runs = Callable[..., Ablation]
USERS, QUERIES = 60, 5


def differences(rng: np.random.Generator, trials: int, effect: float) -> np.ndarray:
    """Draw per-user mean differences: users differ, and so do their queries, with heavy tails."""
    own = rng.normal(effect, 0.25, (trials, USERS))
    return own + rng.standard_t(5, (trials, USERS, QUERIES)).mean(axis=2) * 0.6


def test_an_interval_of_few_people_covers_the_truth_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    trials, few = 1500, 15
    narrow = wide = 0
    for place, row in enumerate(rng.normal(0.1, 1.0, (trials, few))):
        for expand in (False, True):
            one = contrast(row, draws=600, seed=place, expand=expand).interval
            covers = one.low <= 0.1 <= one.high
            wide += expand and covers
            narrow += not expand and covers
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert abs(wide / trials - 0.95) < error
    assert narrow < wide


def test_an_interval_of_sixty_people_covers_the_truth_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(1)
    trials = 1500
    intervals = [
        contrast(row, draws=500, seed=place, expand=True).interval
        for place, row in enumerate(differences(rng, trials, 0.05))
    ]
    share = np.mean([one.low <= 0.05 <= one.high for one in intervals])
    assert abs(share - 0.95) < 3 * np.sqrt(0.05 * 0.95 / trials)


def test_the_detectable_difference_is_found_with_the_power_it_claims() -> None:
    rng = np.random.default_rng(2)
    deviation = float(differences(rng, 500, 0.0).std())
    claimed = detectable(deviation, USERS)

    def power(effect: float, trials: int = 600) -> float:
        rows = differences(rng, trials, effect)
        return float(np.mean([sign_flip(row, draws=400) <= 0.05 for row in rows]))

    effects = claimed * np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    found = np.interp(0.8, [power(one) for one in effects], effects)
    assert found == pytest.approx(claimed, rel=0.2)
    assert power(0.8 * claimed) < 0.8 < power(1.2 * claimed)


def test_gains_pair_people_whoever_failed_for_one_arm(made_up: Callable[..., Run]) -> None:
    scores = {
        "label-prior": {"a": [0.0, 1.0], "b": [1.0], "c": [0.0]},
        "recent-8": {"a": [1.0, 1.0], "c": [1.0]},
    }
    row = rows_of(made_up(scores, "label-prior"))[1]
    assert row.gain is not None
    assert row.gain.interval.mean == pytest.approx((0.5 + 1.0) / 2)
    assert (row.users, row.gain.interval.users, row.worse) == (2, 2, 0.0)
    assert (row.requests, row.prompt_tokens, row.seconds) == (2, 20, 1.0)
    assert compare({"x": {"a": [1.0]}}, "x", "y") is None


def test_a_reference_that_failed_makes_no_table(made_up: Callable[..., Run]) -> None:
    with pytest.raises(NotEnoughData, match="'label-prior' has results of 1 people"):
        rows_of(made_up({"label-prior": {"a": [0.0]}, "none": {"a": [0.0]}}, "label-prior"))


def test_curves_follow_numbers_options_and_whose_persona_it_is(runs: Runs) -> None:
    found = runs(
        "recent-4", "recent-1", "recent-10", "similar-2", "persona", "persona-similar-user",
        "persona-similar-user-last", "persona-aligned", "persona-aligned@rounds=2",
    )  # fmt: skip
    curves = {(one.name, one.along): [p.label for p in one.points] for one in curves_of(found.run)}
    assert curves == {
        ("recent memories", "memories"): ["1", "4", "10"],
        ("persona-aligned", "rounds"): ["1", "2"],
        ("profile replacement", "whose persona"): ["own", "most alike", "least alike"],
    }


def test_the_label_prior_is_in_every_table_and_the_second_run_asks_nothing(
    runs: Runs, small: TaskSet
) -> None:
    first = runs("none", "recent-2")
    again = runs("none", "recent-2")
    assert [row.arm for row in first.rows] == ["label-prior", "none", "recent-2"]
    assert first.run.asked > 0
    assert again.run.asked == 0
    assert first.run.examples == again.run.examples
    assert [row.prompt_tokens for row in first.rows] == [row.prompt_tokens for row in again.rows]
    assert first.rows[0].requests == 0
    assert first.rows[1].metrics.keys() == set(small.metrics)

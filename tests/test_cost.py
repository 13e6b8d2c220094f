"""The cost report, against figures worked out by hand."""

from __future__ import annotations

import pytest

from persona_agent.cost import Cost
from persona_agent.types import Usage

COST = Cost(
    users=4,
    usage=Usage(requests=80, prompt_tokens=8000, cached_tokens=6000, completion_tokens=400),
    seconds=8.0,
    worker_seconds=14.0,
    engine_seconds=9.0,
    gpus=2.0,
)


def test_figures_are_by_user_and_gpu_hours_by_a_thousand() -> None:
    found = COST.figures()
    assert found["users_per_s"] == 0.5
    assert found["requests_per_user"] == 20
    assert found["prompt_tokens_per_user"] == 2000
    assert found["completion_tokens_per_user"] == 100
    assert found["cached_share"] == 0.75
    assert found["gpu_hours_per_1000_users"] == pytest.approx(9 * 2 / 3600 / 4 * 1000)


def test_the_report_says_what_the_estimate_assumes() -> None:
    shown = COST.to_json()
    assert "every second in which an engine was asked as 2 GPU" in str(shown["assumes"])
    assert "if an engine is 2 GPU" in str(COST)
    assert "75% cached" in str(COST)


def test_a_run_that_did_nothing_has_figures_of_nothing() -> None:
    found = Cost(0, Usage(), 0.0, 0.0, 0.0).figures()
    assert {name: value for name, value in found.items() if value} == {"gpus": 1.0}

"""The capacity model, against figures worked out by hand, and against its own laws."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.cli import cli
from persona_agent.eval.capacity import (
    Load,
    alignment_gpu_seconds,
    alignment_tokens,
    need,
    worker_users_per_s,
)

ROUND = Load(
    users=1_000_000,
    daily_active=0.1,
    events_per_day=10,
    keep_days=100,
    alignments_per_week=7,
    answers_per_day=8.64,
    peak=2,
    bytes_per_event=2000,
    bytes_per_user=10_000,
    requests_per_alignment=100,
    tokens_per_request=400,
    cached_share=0.5,
    written_per_alignment=1000,
    overhead_ms=0.36,
    answer_prompt_tokens=1000,
    answer_tokens=100,
    answer_ms=5,
    prefill_tokens_per_s=10_000,
    decode_tokens_per_s=1000,
    gpu_use=0.5,
    batch_hours=10,
    hot_share=0.1,
    server_index_gb=1,
    server_cores=4,
    database_gb=100,
    database_writes_per_s=10,
)


def test_needs_are_those_worked_out_by_hand() -> None:
    found = need(ROUND)
    assert found.events == 100_000 * 10 * 100
    assert found.storage_gb == pytest.approx(200 + 10)
    assert found.writes_per_s == pytest.approx((1_000_000 + 500_000) / 86_400)
    assert found.peak_writes_per_s == pytest.approx(2 * found.writes_per_s)
    # 10,000 hot users of 100 events of 1,536 bytes
    assert found.index_gb == pytest.approx(1.536)
    assert found.alignments_per_day == 100_000
    assert found.alignment_tokens_per_day == pytest.approx(100_000 * 41_000)
    # 20,000 tokens read at 10,000 a second, 1,000 written at 1,000 a second: 3 s
    assert found.alignment_gpu_hours_per_day == pytest.approx(100_000 * 3 / 3600)
    assert found.gpu_hours_per_1000_alignments == pytest.approx(3000 / 3600)
    assert found.alignment_gpus == 17  # 83.3 hours in 10, half used
    assert found.alignment_core_hours_per_day == pytest.approx(1.0)
    assert found.peak_answers_per_s == pytest.approx(20)
    assert found.answer_gpus == 8  # 20 answers of 0.2 s, half used
    assert found.servers == 2  # for the indexes: 1.536 in 1
    assert found.databases == 4  # for the writes: 34.7 at peak, by 10


def test_tokens_and_time_of_an_alignment() -> None:
    assert alignment_tokens(ROUND) == 41_000
    assert alignment_gpu_seconds(ROUND) == pytest.approx(3.0)
    assert alignment_gpu_seconds(replace(ROUND, cached_share=1)) == pytest.approx(1.0)


def test_the_speed_of_a_worker_is_batch_by_time() -> None:
    speed = worker_users_per_s(
        batch=10, rounds=10, latency_s=0.05, requests_per_user=100, overhead_ms=0.5
    )
    assert speed == pytest.approx(10 / (0.5 + 0.5))


def test_nobody_needs_one_server_and_one_database_and_no_gpu() -> None:
    found = need(replace(ROUND, users=0))
    assert (found.servers, found.databases) == (1, 1)
    assert (found.alignment_gpus, found.answer_gpus, found.storage_gb) == (0, 0, 0)


@given(st.floats(0, 1e9), st.floats(1, 100))
def test_more_users_never_need_less(users: float, factor: float) -> None:
    few = dataclasses.astuple(need(replace(ROUND, users=users)))
    many = dataclasses.astuple(need(replace(ROUND, users=users * factor)))
    assert all(b >= a for a, b in zip(few, many, strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [("users", -1.0), ("gpu_use", 0.0), ("cached_share", 1.5), ("database_gb", 0.0)],
)
def test_inputs_that_cannot_be_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(ROUND, **{name: value})


def test_every_assumption_about_hardware_says_that_it_is_one() -> None:
    sources = {one.name: one.metadata["source"] for one in dataclasses.fields(Load)}
    assert set(sources.values()) == {"measured", "assumed", "yours"}
    assert sources["prefill_tokens_per_s"] == sources["decode_tokens_per_s"] == "assumed"


def test_the_command_prints_a_column_a_size_and_says_what_is_assumed() -> None:
    done = CliRunner().invoke(cli, ["plan", "--users", "1e4", "--users", "1e8"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].split() == ["users", "10,000", "100,000,000"]
    assert "prefill_tokens_per_s 24000: assumed;" in done.stdout


def test_the_command_takes_every_input_and_gives_json() -> None:
    asked = ["--json", "plan", "--users", "1e6", "--events-per-day", "10", "--gpu-use", "0.5"]
    (found,) = json.loads(CliRunner().invoke(cli, asked).stdout)
    assert found["inputs"]["events_per_day"] == 10
    expected = need(Load(users=1e6, events_per_day=10, gpu_use=0.5))
    assert {name: found[name] for name in dataclasses.asdict(expected)} == dataclasses.asdict(
        expected
    )

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from persona_agent.errors import BackendError, InputError
from persona_agent.llm import FakeLLM
from persona_agent.llm.replay import RecordingLLM, ReplayLLM, fingerprint
from persona_agent.types import Message, ModelRequest, Sampling

ONE = ModelRequest((Message("user", "één"),), purpose="greet")
TWO = ModelRequest((Message("user", "two"),), choices=("a", "b"))


def record(path: Path) -> None:
    inner = FakeLLM(lambda request: [-1.0, -0.5] if request.choices else "hallo")
    with RecordingLLM(inner, path) as llm:
        llm.complete([ONE])
        llm.complete([TWO])


def test_what_was_recorded_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    inner = FakeLLM(lambda request: [-1.0, -0.5] if request.choices else "hallo")
    with RecordingLLM(inner, path) as llm:
        live = llm.complete([ONE, TWO])
    assert ReplayLLM(path).complete([TWO, ONE]) == live[::-1]


def test_recording_again_appends(tmp_path: Path) -> None:
    record(tmp_path / "t")
    record(tmp_path / "t")
    assert len((tmp_path / "t").read_text().splitlines()) == 4


def test_an_unknown_request_is_an_error_that_names_purpose_and_hash(tmp_path: Path) -> None:
    record(tmp_path / "t")
    other = replace(ONE, sampling=Sampling(max_tokens=9))
    error = ReplayLLM(tmp_path / "t").complete([other])[0].error
    assert error is not None
    assert "'greet'" in error
    assert fingerprint(other) in error


def test_purpose_does_not_change_the_hash_and_content_does() -> None:
    assert fingerprint(replace(ONE, purpose="other")) == fingerprint(ONE)
    assert fingerprint(replace(ONE, template=False)) != fingerprint(ONE)


def test_a_torn_last_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    record(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"line 2: .*torn"):
        ReplayLLM(path)
    with pytest.raises(InputError, match="torn"):
        RecordingLLM(FakeLLM(lambda _: ""), path)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    record(path)
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(InputError, match="line 1: not a recorded reply"):
        ReplayLLM(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="RecordingLLM"):
        ReplayLLM(tmp_path / "none")

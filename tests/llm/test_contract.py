"""What every implementation of the `LLM` port owes, whatever is behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persona_agent.llm import FakeLLM
from persona_agent.llm.openai import OpenAILLM
from persona_agent.llm.replay import RecordingLLM, ReplayLLM
from persona_agent.ports import LLM
from persona_agent.types import Json, Message, ModelReply, ModelRequest, Sampling

SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}
SHORT = Sampling(max_tokens=16)


def ask(text: str, **options: Any) -> ModelRequest:
    return ModelRequest((Message("user", text),), SHORT, **options)


PLAIN = ask("Say hello.")
OTHER = ask("Say goodbye.", template=False)
STARS = ask("Rating:", choices=(" 1", " 2", " 3"), template=False)
TITLES = ask("My favourite film is", choices=(" Toy Story", " Heat"))
PERSON = ask("How old is Ann, who is 7?", schema=SCHEMA)
EVERY = [PLAIN, OTHER, STARS, TITLES, PERSON]


def answer(request: ModelRequest) -> str | list[float]:
    if request.choices:
        return [-float(len(choice)) for choice in request.choices]
    return '{"age": 7}' if request.schema else f"so: {request.messages[-1].content}"


def play(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    text = "so: " + body["messages"][-1]["content"]
    logprobs = None
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]
        names = schema["properties"].get("choice", {}).get("enum", [])
        text = json.dumps({"choice": names[0]} if names else {"age": 7})
    elif body.get("logprobs"):
        top = [{"token": token, "logprob": -1.0} for token in ("1", "2", " 3", "3")]
        logprobs = {"content": [{"token": "1", "logprob": -1.0, "top_logprobs": top}]}
    message = {"role": "assistant", "content": text}
    choice = {"message": message, "finish_reason": "stop", "logprobs": logprobs}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


@pytest.fixture(
    params=[
        "fake",
        "replay",
        "openai",
        pytest.param("local", marks=pytest.mark.real("model")),
        pytest.param("vllm", marks=pytest.mark.real("vllm")),
    ]
)
def llm(
    request: pytest.FixtureRequest, tmp_path: Path, endpoint: Callable[..., Any]
) -> Iterator[LLM]:
    if request.param == "fake":
        yield FakeLLM(answer)
    elif request.param == "replay":
        with RecordingLLM(FakeLLM(answer), tmp_path / "traffic") as recorder:
            recorder.complete(EVERY)
        yield ReplayLLM(tmp_path / "traffic")
    elif request.param == "openai":
        with OpenAILLM("m", base_url=endpoint(play).base_url) as client:
            yield client
    else:
        yield request.getfixturevalue(request.param)


def assert_same(one: ModelReply, two: ModelReply) -> None:
    assert (one.text, one.parsed, one.finish, one.error) == (
        two.text,
        two.parsed,
        two.finish,
        two.error,
    )
    assert (one.logprobs is None) == (two.logprobs is None)
    if one.logprobs is not None:
        assert one.logprobs == pytest.approx(two.logprobs, abs=0.1)


def test_nothing_asked_is_nothing_answered(llm: LLM) -> None:
    assert llm.complete([]) == []


def test_a_batch_equals_a_map_of_singles_in_order(llm: LLM) -> None:
    batch = llm.complete(EVERY)
    assert len(batch) == len(EVERY)
    for request, reply in zip(EVERY, batch, strict=True):
        assert reply.error is None
        assert_same(llm.complete([request])[0], reply)


def test_the_order_of_a_batch_changes_nothing(llm: LLM) -> None:
    for one, two in zip(llm.complete(EVERY), llm.complete(EVERY[::-1])[::-1], strict=True):
        assert_same(one, two)


def test_duplicates_are_answered_alike(llm: LLM) -> None:
    one, other, again = llm.complete([STARS, PLAIN, STARS])
    assert_same(one, again)
    assert other.logprobs is None


def test_every_reply_counts_one_request(llm: LLM) -> None:
    assert [reply.usage.requests for reply in llm.complete(EVERY)] == [1] * len(EVERY)


@pytest.mark.parametrize("request_", [STARS, TITLES])
def test_the_answer_is_one_of_the_choices_and_the_likeliest(
    llm: LLM, request_: ModelRequest
) -> None:
    reply = llm.complete([request_])[0]
    assert reply.text in request_.choices
    if reply.logprobs is not None:
        assert len(reply.logprobs) == len(request_.choices)
        assert all(value <= 0 for value in reply.logprobs)
        assert reply.text == request_.choices[reply.logprobs.index(max(reply.logprobs))]


def test_an_answer_with_a_schema_is_parsed(llm: LLM) -> None:
    reply = llm.complete([PERSON])[0]
    assert isinstance(reply.parsed, dict)
    assert isinstance(reply.parsed["age"], int)
    assert json.loads(reply.text) == reply.parsed

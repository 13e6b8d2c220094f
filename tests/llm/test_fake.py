from __future__ import annotations

import pytest

from persona_agent.llm import FakeLLM
from persona_agent.types import Message, ModelReply, ModelRequest

ASK = (Message("user", "which one"),)


def test_a_string_is_the_answer_and_words_are_tokens() -> None:
    reply = FakeLLM(lambda _: "this one").complete([ModelRequest(ASK)])[0]
    assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (
        "this one",
        2,
        2,
    )


def test_numbers_are_log_probabilities_and_the_first_of_the_best_is_the_answer() -> None:
    request = ModelRequest(ASK, choices=("a", "b", "c"))
    reply = FakeLLM(lambda _: [-2, -1, -1.0]).complete([request])[0]
    assert (reply.text, reply.logprobs) == ("b", (-2.0, -1.0, -1.0))


def test_a_reply_is_passed_on() -> None:
    reply = ModelReply(error="RateLimited: slowly", finish="error")
    assert FakeLLM(lambda _: reply).complete([ModelRequest(ASK)]) == [reply]


def test_an_answer_outside_the_choices_is_a_bug_of_the_test() -> None:
    with pytest.raises(ValueError, match="answered 'z'"):
        FakeLLM(lambda _: "z").complete([ModelRequest(ASK, choices=("a", "b"))])


def test_the_wrong_number_of_log_probabilities_is_a_bug_of_the_test() -> None:
    with pytest.raises(ValueError, match="1 log-probabilities for 2 choices"):
        FakeLLM(lambda _: [-1.0]).complete([ModelRequest(ASK, choices=("a", "b"))])


def test_json_is_parsed_and_what_is_not_json_is_an_error_in_the_reply() -> None:
    request = ModelRequest(ASK, schema={"type": "object"})
    assert FakeLLM(lambda _: '{"a": 1}').complete([request])[0].parsed == {"a": 1}
    bad = FakeLLM(lambda _: "sure!").complete([request])[0]
    assert bad.parsed is None
    assert bad.error is not None
    assert "not JSON" in bad.error


def test_calls_keep_the_batches() -> None:
    llm = FakeLLM(lambda _: "x")
    one, two = ModelRequest(ASK), ModelRequest(ASK, purpose="score")
    llm.complete([one, two])
    llm.complete([])
    assert llm.calls == [(one, two), ()]
    assert llm.requests == [one, two]

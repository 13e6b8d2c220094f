from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm import LocalLLM
from persona_agent.llm.openai import OpenAILLM
from persona_agent.types import Json, Message, ModelReply, ModelRequest, Sampling

Body = dict[str, Any]
Start = Callable[[Callable[[Body], Any]], Any]
ASK = ModelRequest((Message("user", "hello"),))
SCHEMA: dict[str, Json] = {"type": "object", "properties": {"a": {"type": "integer"}}}


def said(text: str | None, finish: str = "stop", **extra: Any) -> tuple[int, Body]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, **extra}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def refused(status: int, message: str = "no", **extra: str) -> tuple[int, Body]:
    return status, {"error": {"message": message, **extra}}


def likely(**tokens: float) -> Body:
    top = [{"token": name.replace("_", " "), "logprob": v} for name, v in tokens.items()]
    return {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}


def ask(url: str, *requests: ModelRequest, **options: Any) -> list[ModelReply]:
    with OpenAILLM("m", base_url=url, **{"timeout_s": 5.0, **options}) as llm:
        return llm.complete(requests)


def test_text_usage_and_what_is_sent(endpoint: Start) -> None:
    server = endpoint(lambda _: said("hi"))
    sampling = Sampling(max_tokens=9, temperature=0.5, stop=("\n",), seed=3)
    request = ModelRequest(ASK.messages, sampling)
    reply = ask(server.base_url, request, api_key="k")[0]
    assert (reply.text, reply.usage.requests, reply.usage.prompt_tokens) == ("hi", 1, 7)
    assert server.keys == ["Bearer k"]
    assert server.seen == [
        {
            "model": "m",
            "temperature": 0.5,
            "top_p": 1.0,
            "max_tokens": 9,
            "stop": ["\n"],
            "seed": 3,
            "messages": [{"role": "user", "content": "hello"}],
        }
    ]


@pytest.mark.parametrize("status", [429, 500])
def test_a_passing_failure_is_retried(endpoint: Start, status: int) -> None:
    plays = iter([refused(status), said("hi")])
    server = endpoint(lambda _: next(plays))
    assert ask(server.base_url, ASK)[0].text == "hi"


@pytest.mark.parametrize(
    ("play", "prefix"),
    [
        (refused(429, "slow down"), "RateLimited: "),
        (refused(500, "oh"), "BackendError: "),
        (refused(400, "bad", code="context_length_exceeded"), "ContextTooLong: "),
        (refused(400, "bad temperature"), "BackendError: "),
        ((200, b"not json"), "ReplyFormatError: "),
        ((200, b'{"ch'), "BackendError: "),
        ((200, b"[]"), "ReplyFormatError: "),
        ((200, {"choices": []}), "ReplyFormatError: "),
        ((200, {"choices": "x"}), "ReplyFormatError: "),
        ((200, {"choices": [{"message": {"content": 5}}]}), "ReplyFormatError: "),
        (said(None), "ReplyFormatError: "),
        (said("", "length"), "ReplyFormatError: "),
    ],
)
def test_one_bad_answer_disturbs_no_other(endpoint: Start, play: Any, prefix: str) -> None:
    def answer(body: Body) -> Any:
        return play if body["messages"][0]["content"] == "hello" else said("fine")

    server = endpoint(answer)
    good = ModelRequest((Message("user", "good"),))
    bad, fine = ask(server.base_url, ASK, good, max_retries=1)
    assert fine.text == "fine"
    assert bad.error is not None
    assert bad.error.startswith(prefix)
    assert bad.finish == "error"


@pytest.mark.parametrize("play", [(200, None), (200, b"drip")])
def test_the_deadline_holds_for_silence_and_for_a_trickle(endpoint: Start, play: Any) -> None:
    server = endpoint(lambda _: play)
    start = time.monotonic()
    reply = ask(server.base_url, ASK, timeout_s=0.3)[0]
    assert time.monotonic() - start < 2
    assert reply.error is not None
    assert reply.error.startswith("BackendTimeout: ")


def test_no_endpoint_raises_naming_the_address_and_never_the_key() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(BackendError, match="nothing answers at") as caught:
        ask(url, *[ASK] * 20, max_retries=0, api_key="hush")
    assert url in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(("status", "hint"), [(401, "api_key"), (403, "api_key"), (404, "/v1")])
def test_a_refused_key_or_model_raises_with_the_way_out(
    endpoint: Start, status: int, hint: str
) -> None:
    server = endpoint(lambda _: refused(status))
    with pytest.raises(BackendError, match=hint):
        ask(server.base_url, ASK)


def test_an_endpoint_that_is_down_is_not_asked_once_a_request(endpoint: Start) -> None:
    server = endpoint(lambda _: refused(401))
    with pytest.raises(BackendError):
        ask(server.base_url, *[ASK] * 50, concurrency=2)
    assert len(server.seen) <= 4


def test_a_schema_is_asked_for_by_response_format(endpoint: Start) -> None:
    server = endpoint(lambda _: said('{"a": 1}'))
    reply = ask(server.base_url, ModelRequest(ASK.messages, schema=SCHEMA))[0]
    assert reply.parsed == {"a": 1}
    assert server.seen[0]["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_refused_schema_is_asked_for_in_words_once_and_remembered(endpoint: Start) -> None:
    def answer(body: Body) -> Any:
        if "response_format" in body:
            return refused(400, "unknown field response_format")
        return said('<think>hm {</think>\n```json\n{"a": 2}\n```')

    server = endpoint(answer)
    request = ModelRequest(ASK.messages, schema=SCHEMA)
    with OpenAILLM("m", base_url=server.base_url) as llm:
        assert llm.complete([request])[0].parsed == {"a": 2}
        assert llm.complete([request])[0].parsed == {"a": 2}
    assert len(server.seen) == 3
    assert '"integer"' in server.seen[1]["messages"][0]["content"]


def test_json_that_was_cut_off_says_so(endpoint: Start) -> None:
    server = endpoint(lambda _: said('{"a": ', "length"))
    reply = ask(server.base_url, ModelRequest(ASK.messages, schema=SCHEMA))[0]
    assert (reply.parsed, reply.finish) == (None, "length")
    assert "max_tokens" in str(reply.error)


def test_one_token_choices_are_scored_with_their_spellings_summed(endpoint: Start) -> None:
    tokens = likely(_1=math.log(0.2), **{"2": math.log(0.3), "_2": math.log(0.4)})
    server = endpoint(lambda _: said("2", logprobs=tokens))
    reply = ask(server.base_url, ModelRequest(ASK.messages, choices=(" 1", " 2")))[0]
    assert reply.text == " 2"
    assert reply.logprobs == pytest.approx((math.log(0.2), math.log(0.7)))
    assert server.seen[0]["top_logprobs"] == 20


@pytest.mark.parametrize("first", [said("1"), said("1", logprobs=likely(_1=-0.1)), refused(400)])
def test_without_all_log_probabilities_the_answer_is_constrained(
    endpoint: Start, first: Any
) -> None:
    def answer(body: Body) -> Any:
        return said('{"choice": "2"}') if "response_format" in body else first

    server = endpoint(answer)
    reply = ask(server.base_url, ModelRequest(ASK.messages, choices=(" 1", " 2")))[0]
    assert (reply.text, reply.logprobs, reply.error) == (" 2", None, None)
    assert reply.usage.requests == 1


@pytest.mark.parametrize("text", ["Heat", "heat ", '"Heat".', '{"choice": "Heat"}'])
def test_a_plain_answer_is_matched_to_a_choice(endpoint: Start, text: str) -> None:
    def answer(body: Body) -> Any:
        return refused(400) if "response_format" in body else said(text)

    server = endpoint(answer)
    request = ModelRequest(ASK.messages, choices=("Toy Story", "Heat"))
    assert ask(server.base_url, request)[0].text == "Heat"


def test_an_answer_outside_the_choices_is_an_error(endpoint: Start) -> None:
    server = endpoint(lambda _: said("Alien"))
    request = ModelRequest(ASK.messages, choices=("Toy Story", "Heat"))
    assert "none of the choices" in str(ask(server.base_url, request)[0].error)


def test_a_prefill_is_asked_for_in_words_and_taken_off_the_answer(endpoint: Start) -> None:
    server = endpoint(lambda _: said("It is blue"))
    request = ModelRequest((*ASK.messages, Message("assistant", "It is")))
    assert ask(server.base_url, request)[0].text == " blue"
    assert server.seen[0]["messages"] == [
        {"role": "user", "content": "hello\n\nBegin your answer with: It is"}
    ]


def test_vllm_continues_a_prefill_and_knows_salts_and_adapters(endpoint: Start) -> None:
    server = endpoint(lambda _: said(" blue"))
    messages = (*ASK.messages, Message("assistant", "It is"))
    request = ModelRequest(messages, adapter="lora", cache_salt="s")
    assert ask(server.base_url, request, vllm=True)[0].text == " blue"
    body = server.seen[0]
    assert (body["model"], body["cache_salt"]) == ("lora", "s")
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["messages"][-1] == {"role": "assistant", "content": "It is"}


@pytest.mark.parametrize("option", ["adapter", "cache_salt"])
def test_elsewhere_salts_and_adapters_are_refused(endpoint: Start, option: str) -> None:
    server = endpoint(lambda _: said("x"))
    reply = ask(server.base_url, ModelRequest(ASK.messages, **{option: "v"}))[0]  # type: ignore[arg-type]
    assert "vllm=True" in str(reply.error)
    assert server.seen == []


def test_plain_text_goes_as_one_message(endpoint: Start) -> None:
    server = endpoint(lambda _: said("x"))
    messages = (Message("system", "a"), Message("user", "b"))
    ask(server.base_url, ModelRequest(messages, template=False))
    assert server.seen[0]["messages"] == [{"role": "user", "content": "a\n\nb"}]


def test_a_batch_runs_side_by_side_and_comes_back_in_order(endpoint: Start) -> None:
    four = threading.Barrier(4, timeout=10)

    def answer(body: Body) -> Any:
        four.wait()  # breaks unless four requests are here at once
        return said(body["messages"][0]["content"])

    server = endpoint(answer)
    requests = [ModelRequest((Message("user", str(i)),)) for i in range(8)]
    replies = ask(server.base_url, *requests, concurrency=4, timeout_s=20)
    assert [reply.text for reply in replies] == [str(i) for i in range(8)]


def test_a_closed_client_says_so(endpoint: Start) -> None:
    llm = OpenAILLM("m", base_url=endpoint(lambda _: said("x")).base_url)
    llm.close()
    llm.close()
    with pytest.raises(BackendError, match="closed"):
        llm.complete([ASK])


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": 0}, {"concurrency": 0}, {"max_retries": -1}, {"base_url": "localhost:8000"}],
)
def test_a_wrong_option_is_named(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        OpenAILLM("m", **options)


@pytest.mark.real("model")
def test_against_the_embedded_server(local: LocalLLM) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    requests = [
        ModelRequest((Message("user", "Say hello."),), Sampling(max_tokens=8)),
        ModelRequest((Message("user", "Yes or no?"),), choices=("Alpha beta", "Gamma delta")),
        ModelRequest((Message("user", "True?"),), Sampling(max_tokens=64), schema=schema),
    ]
    plain, choice, parsed = ask(local.base_url, *requests, api_key=local.api_key, timeout_s=60)
    assert plain.text
    assert plain.usage.completion_tokens > 0
    assert choice.text in requests[1].choices
    assert isinstance(parsed.parsed, dict)

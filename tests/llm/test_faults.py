"""What can go wrong at an endpoint: each ends clearly, in bounded time, and disturbs no other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.drive import Ports, run_many
from persona_agent.errors import BackendError, PersonaAgentError
from persona_agent.llm.breaker import Breaker
from persona_agent.llm.openai import OpenAILLM
from persona_agent.program import Program, complete
from persona_agent.types import Json, Message, ModelReply, ModelRequest, Sampling

Body = dict[str, Any]
Start = Callable[..., Any]
NOBODY = Breaker(limit=10**6)  # lets every request try
SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"lines": {"type": "array", "items": {"type": "string"}}},
    "required": ["lines"],
}


def said(text: str | None, finish: str = "stop", **more: str) -> tuple[int, Body]:
    message = {"role": "assistant", "content": text, **more}
    return 200, {"choices": [{"message": message, "finish_reason": finish}]}


def error(status: int, **headers: str) -> tuple[int, Body, dict[str, str]]:
    return status, {"error": {"message": "no"}}, headers


def request(text: str, **options: Any) -> ModelRequest:
    return ModelRequest((Message("user", text),), **options)


ASK = request("hello")
TWO = (200, {"choices": [said("a")[1]["choices"][0]] * 2})
FAULTS: dict[str, tuple[Any, str]] = {
    "429 without a word when": (error(429), "RateLimited: "),
    "429 for a moment": (error(429, **{"retry-after-ms": "20"}), "RateLimited: "),
    "429 for long": (error(429, **{"retry-after": "60"}), "RateLimited: "),
    "500": (error(500), "BackendError: "),
    "503 for long": (error(503, **{"retry-after": "60"}), "BackendError: "),
    "silence": ((200, None), "BackendTimeout: "),
    "half a body, then silence": ((200, b"drip"), "BackendTimeout: "),
    "half a body, then closed": ((200, b'{"ch'), "BackendError: "),
    "not JSON": ((200, b"<html>"), "ReplyFormatError: "),
    "no choices": ((200, {"choices": []}), "ReplyFormatError: "),
    "two choices": (TWO, "ReplyFormatError: "),
    "empty": (said(""), "ReplyFormatError: "),
    "null": (said(None), "ReplyFormatError: "),
    "reasoning only": (said(None, reasoning_content="well"), "ReplyFormatError: "),
    "reasoning without end": (said("<think>well, "), "ReplyFormatError: "),
}
every_fault = pytest.mark.parametrize(("play", "kind"), FAULTS.values(), ids=list(FAULTS))


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def opened(url: str, **options: Any) -> OpenAILLM:
    return OpenAILLM("m", base_url=url, **{"timeout_s": 2.0, "max_retries": 1, **options})


def selective(play: Any) -> Callable[[Body], Any]:
    return lambda body: said("fine") if "good" in str(body["messages"]) else play


@every_fault
def test_a_fault_is_one_clear_reply_in_bounded_time(endpoint: Start, play: Any, kind: str) -> None:
    server = endpoint(lambda _: play)
    start = time.monotonic()
    with opened(server.base_url) as llm:
        (reply,) = llm.complete([ASK])
    assert time.monotonic() - start < 10
    assert (reply.finish, reply.text) == ("error", "")
    assert str(reply.error).startswith(kind)
    assert len(server.seen) <= 2


def asking(text: str) -> Program[str]:
    (reply,) = yield from complete([request(text)])
    if reply.error is not None:
        raise BackendError(reply.error)
    return reply.text


# The rate limit holds for all, so that it is no fault of one program.
ONE_PROGRAMS = {name: one for name, one in FAULTS.items() if not name.startswith(("429", "503"))}


@pytest.mark.parametrize("play", [one for one, _ in ONE_PROGRAMS.values()], ids=list(ONE_PROGRAMS))
def test_other_programs_are_not_disturbed(endpoint: Start, play: Any) -> None:
    server = endpoint(selective(play))
    with opened(server.base_url, breaker=NOBODY) as llm:
        programs = [asking("good" if i % 2 else "bad") for i in range(8)]
        results = run_many(programs, Ports(llm=llm))
    assert [result.value for result in results[1::2]] == ["fine"] * 4
    assert not any(result.ok for result in results[::2])
    assert all(result.reason for result in results[::2])


@every_fault
def test_an_agent_that_cannot_answer_says_why(
    endpoint: Start, tmp_path: Any, play: Any, kind: str
) -> None:
    server = endpoint(lambda _: play)
    with (
        opened(server.base_url) as llm,
        PersonaAgent.open(tmp_path / "p.db", llm=llm, embedder="hash") as agent,
    ):
        agent.add("I like short films", user_id="ann")
        start = time.monotonic()
        with pytest.raises(PersonaAgentError, match=kind.split(":")[0]):
            agent.ask("what now?", user_id="ann")
        assert time.monotonic() - start < 10


def test_an_endpoint_that_is_down_costs_a_bounded_time_and_says_where(nobody: str) -> None:
    start = time.monotonic()
    with opened(nobody, concurrency=2) as llm:
        with pytest.raises(BackendError, match=f"nothing answers at {nobody}"):
            llm.complete([ASK] * 200)
        results = run_many([asking("x") for _ in range(50)], Ports(llm=llm))
    assert time.monotonic() - start < 8
    assert all("is not asked for another" in result.reason for result in results)


def test_a_hung_engine_costs_two_deadlines_at_most_not_one_a_request(endpoint: Start) -> None:
    server = endpoint(lambda _: (200, None))
    start = time.monotonic()
    with opened(server.base_url, timeout_s=0.8, concurrency=5) as llm:
        replies = llm.complete([ASK] * 100)
    assert time.monotonic() - start < 3
    # Five fill all places; when the first gives its place up, four more may go before the fifth.
    assert 5 <= len(server.seen) <= 9
    late = [reply for reply in replies if "BackendTimeout" in str(reply.error)]
    assert 5 <= len(late) <= 9
    rest = [reply for reply in replies if "is not asked for another" in str(reply.error)]
    assert len(late) + len(rest) == 100


def test_after_a_pause_one_request_tries_and_the_others_wait_for_it(endpoint: Start) -> None:
    server = endpoint(lambda _: error(500))
    broken = Breaker(limit=2, pause_s=0.3)
    with opened(server.base_url, breaker=broken, max_retries=0, concurrency=4) as llm:
        llm.complete([ASK] * 4)
        with pytest.raises(BackendError, match="failures in a row"):
            llm.complete([ASK])
        asked = len(server.seen)
        time.sleep(0.35)
        alone = threading.Event()

        def recovered(_: Body) -> Any:
            if not alone.is_set():
                time.sleep(0.2)  # long enough for others to come, if they were let through
                assert len(server.seen) == asked + 1
                alone.set()
            return said("back")

        server.play = recovered
        assert [reply.text for reply in llm.complete([ASK] * 20)] == ["back"] * 20


def test_a_burst_of_passing_failures_loses_nothing(endpoint: Start) -> None:
    fails = iter([True] * 6)
    server = endpoint(lambda _: error(503) if next(fails, False) else said("fine"))
    with opened(server.base_url, timeout_s=20, max_retries=2, concurrency=6) as llm:
        assert [reply.text for reply in llm.complete([ASK] * 30)] == ["fine"] * 30


def test_when_one_is_told_to_wait_nobody_asks_before(endpoint: Start) -> None:
    plays = iter([error(429, **{"retry-after-ms": "600"})])
    server = endpoint(lambda _: next(plays, None) or said("fine"))
    with opened(server.base_url, timeout_s=20, concurrency=1) as llm:
        futures = [llm.submit([ASK]) for _ in range(4)]
        assert [future.result()[0].text for future in futures] == ["fine"] * 4
    assert server.times[1] - server.times[0] >= 0.6
    assert len(server.seen) == 5


def test_a_used_up_limit_is_respected_before_it_is_exceeded(endpoint: Start) -> None:
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "500ms"}
    plays = iter([(*said("first"), used_up)])
    server = endpoint(lambda _: next(plays, None) or said("second"))
    with opened(server.base_url, timeout_s=20) as llm:
        assert llm.complete([ASK])[0].text == "first"
        assert llm.complete([ASK])[0].text == "second"
    assert server.times[1] - server.times[0] >= 0.5


def test_cancelling_a_future_frees_the_engine_and_disturbs_no_other(endpoint: Start) -> None:
    server = endpoint(selective((200, None)))
    with opened(server.base_url, timeout_s=30) as llm:
        future = llm.submit([ASK])
        deadline = time.monotonic() + 10
        while not server.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert future.cancel()
        assert server.left.wait(10)
        with pytest.raises(CancelledError):
            future.result()
        assert llm.complete([request("good")])[0].text == "fine"


def test_closing_gives_up_what_is_under_way(endpoint: Start) -> None:
    server = endpoint(lambda _: (200, None))
    llm = opened(server.base_url, timeout_s=30)
    futures = [llm.submit([ASK]) for _ in range(20)]
    while len(server.seen) < 8:
        time.sleep(0.01)
    start = time.monotonic()
    llm.close()
    assert time.monotonic() - start < 2
    for future in futures:
        with pytest.raises(BackendError, match="was closed"):
            future.result(1)
    assert server.left.wait(10)


def test_a_probe_that_is_cancelled_leaves_its_place(endpoint: Start) -> None:
    server = endpoint(lambda _: error(500))
    with opened(
        server.base_url, breaker=Breaker(1, 0.1), max_retries=0, timeout_s=30, vllm=False
    ) as llm:
        llm.complete([ASK])
        time.sleep(0.15)
        server.play = lambda _: (200, None)
        probe = llm.submit([ASK])
        while len(server.seen) < 2:
            time.sleep(0.01)
        server.play = lambda _: said("fine")
        waiting = llm.submit([ASK])
        time.sleep(0.05)
        assert not waiting.done()
        probe.cancel()
        assert waiting.result(10)[0].text == "fine"


def lines(text: str, finish: str = "stop") -> Callable[[Body], Any]:
    return lambda _: said(text, finish)


def structured(server: Any, **options: Any) -> ModelReply:
    wanted = request("lines?", schema=SCHEMA, sampling=Sampling(max_tokens=10))
    with opened(server.base_url, **options) as llm:
        return llm.complete([wanted])[0]


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ('{"lines": ["a"]}', ["a"], ""),
        ('<think>{"lines": 1}</think>```json\n{"lines": ["a"]}\n```', ["a"], ""),
        ('{"lines": ["a",]}', ["a"], "repaired"),
        ('{"lines": ["a", 4, "b"]}', ["a", "b"], "dropped lines[1]"),
    ],
)
def test_json_is_caught_and_what_was_lost_is_told(
    endpoint: Start, text: str, value: list[str], told: str
) -> None:
    reply = structured(endpoint(lines(text)))
    assert reply.error is None
    assert reply.parsed == {"lines": value}
    assert told in " ".join(reply.salvaged)
    assert bool(reply.salvaged) == bool(told)


@pytest.mark.parametrize("text", ["no idea", '{"other": 1}', '{"lines": "a"}', "<think>{}", "null"])
def test_json_that_cannot_be_caught_is_a_failure(endpoint: Start, text: str) -> None:
    reply = structured(endpoint(lines(text)))
    assert str(reply.error).startswith("ReplyFormatError: ")


def test_an_answer_that_is_cut_off_is_asked_for_once_more_and_larger(endpoint: Start) -> None:
    plays = iter([said('{"lines": ["a', "length"), said('{"lines": ["a"]}')])
    server = endpoint(lambda _: next(plays))
    reply = structured(server)
    assert (reply.parsed, reply.finish, reply.usage.requests) == ({"lines": ["a"]}, "stop", 1)
    assert [body["max_tokens"] for body in server.seen] == [10, 20]


def test_reasoning_that_took_all_tokens_is_asked_for_larger_too(endpoint: Start) -> None:
    plays = iter([said(None, "length"), said('{"lines": []}')])
    server = endpoint(lambda _: next(plays))
    assert structured(server).parsed == {"lines": []}


def test_a_second_try_that_fails_leaves_the_first_answer(endpoint: Start) -> None:
    plays = iter([said('{"lines": ["a', "length"), (200, None)])
    server = endpoint(lambda _: next(plays))
    reply = structured(server, timeout_s=0.5)
    assert (reply.finish, len(server.seen)) == ("length", 2)
    assert "cut off" in str(reply.error)

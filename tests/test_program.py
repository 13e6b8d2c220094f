"""The laws of programs and their drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.drive import MOST_AT_ONCE, Ports, Round, arun, run, run_many
from persona_agent.errors import BackendError
from persona_agent.program import Program, Result, call_tool, complete, metered, recall
from persona_agent.types import (
    Json,
    Message,
    ModelReply,
    ModelRequest,
    RecallReply,
    RecallRequest,
    Scope,
    Usage,
)

ALICE = Scope("alice")


class Echo:
    """A deterministic model: it answers with the prompt, and counts its calls."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        self.batches.append(len(requests))
        return [
            ModelReply(f"<{request.messages[0].content}>", usage=Usage(1, 2, 0, 1))
            for request in requests
        ]


class Served(Echo):
    """The same model as a server would be: many batches at once, answered in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPoolExecutor(4)

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        return self.pool.submit(self.complete, requests)


class NoMemory:
    def recall(self, requests: Sequence[RecallRequest]) -> list[RecallReply]:
        return [RecallReply() for _ in requests]


class Shout:
    name, description = "shout", "Says it louder."
    parameters: Mapping[str, Json] = {"type": "object"}

    def call(self, scope: Scope, arguments: Mapping[str, Json]) -> str:
        return f"{scope.user}: {str(arguments['text']).upper()}"


def ask(text: str) -> ModelRequest:
    return ModelRequest((Message("user", text),))


def conversation(
    name: str, rounds: Sequence[int], fail_at: int | None = None
) -> Program[list[str]]:
    """Ask `rounds[i]` things in round i; raise in round `fail_at`."""
    said: list[str] = []
    for number, count in enumerate(rounds):
        if number == fail_at:
            raise RuntimeError(f"{name} broke in round {number}")
        replies = yield from complete([ask(f"{name}.{number}.{i}") for i in range(count)])
        said += [reply.text for reply in replies]
    return said


def expected(name: str, rounds: Sequence[int]) -> list[str]:
    return [f"<{name}.{number}.{i}>" for number, count in enumerate(rounds) for i in range(count)]


shapes = st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=8)
either = pytest.mark.parametrize("model", [Echo, Served])


@either
@given(rounds=shapes)
def test_replies_reach_the_program_that_asked_in_order(
    model: Callable[[], Echo], rounds: list[list[int]]
) -> None:
    results = run_many(
        [conversation(str(i), shape) for i, shape in enumerate(rounds)], Ports(llm=model())
    )
    assert [result.unwrap() for result in results] == [
        expected(str(i), shape) for i, shape in enumerate(rounds)
    ]


@given(shapes)
def test_one_round_is_one_call_of_the_model(rounds: list[list[int]]) -> None:
    model = Echo()
    run_many([conversation(str(i), shape) for i, shape in enumerate(rounds)], Ports(llm=model))
    longest = max((len(shape) for shape in rounds), default=0)
    due = [sum(shape[n] for shape in rounds if n < len(shape)) for n in range(longest)]
    assert model.batches == [size for size in due if size]


@either
@given(rounds=shapes, data=st.data())
def test_a_program_that_raises_fails_alone_with_its_reason(
    model: Callable[[], Echo], rounds: list[list[int]], data: st.DataObject
) -> None:
    broken = [
        data.draw(st.none() | st.integers(0, max(0, len(shape) - 1))) if shape else None
        for shape in rounds
    ]
    programs = [
        conversation(str(i), shape, fail_at)
        for i, (shape, fail_at) in enumerate(zip(rounds, broken, strict=True))
    ]
    results = run_many(programs, Ports(llm=model()))
    for i, (shape, fail_at, result) in enumerate(zip(rounds, broken, results, strict=True)):
        if fail_at is None:
            assert result.unwrap() == expected(str(i), shape)
        else:
            assert not result.ok
            assert result.reason == f"RuntimeError: {i} broke in round {fail_at}"


@either
@given(rounds=shapes)
def test_run_many_equals_a_map_of_run(model: Callable[[], Echo], rounds: list[list[int]]) -> None:
    together = run_many(
        [conversation(str(i), shape) for i, shape in enumerate(rounds)], Ports(llm=model())
    )
    alone = [run(conversation(str(i), shape), Ports(llm=Echo())) for i, shape in enumerate(rounds)]
    assert [result.unwrap() for result in together] == alone


@either
@given(shape=st.lists(st.integers(0, 4), max_size=5))
def test_arun_equals_run(model: Callable[[], Echo], shape: list[int]) -> None:
    value = asyncio.run(arun(conversation("a", shape), Ports(llm=model())))
    assert value == run(conversation("a", shape), Ports(llm=Echo()))


@given(st.lists(st.integers(0, 4), max_size=5))
def test_metered_adds_the_cost_and_changes_nothing_else(shape: list[int]) -> None:
    value, usage = run(metered(conversation("a", shape)), Ports(llm=Echo()))
    assert value == expected("a", shape)
    assert usage == Usage(sum(shape), 2 * sum(shape), 0, sum(shape))
    assert run_many([conversation("a", shape)], Ports(llm=Echo()))[0].usage == usage


@either
def test_kinds_of_requests_mix_in_one_round(model: Callable[[], Echo]) -> None:
    def program() -> Program[tuple[str, int, str]]:
        said, memory = yield [ask("hi"), RecallRequest(ALICE)]
        assert isinstance(said, ModelReply)
        assert isinstance(memory, RecallReply)
        tool = yield from call_tool(ALICE, "shout", {"text": "go"})
        return said.text, len(memory.memories), tool.text

    ports = Ports(model(), NoMemory(), {"shout": Shout()})
    assert run(program(), ports) == ("<hi>", 0, "alice: GO")


def test_a_failing_or_unknown_tool_is_data() -> None:
    ports = Ports(tools={"shout": Shout()})
    wrong = run(call_tool(ALICE, "shout", {}), ports)
    assert wrong.error == "KeyError: 'text'"
    unknown = run(call_tool(ALICE, "sing", {}), ports)
    assert unknown.error == "there is no tool 'sing'; known tools: shout"


def test_a_dead_model_is_thrown_into_the_programs_that_asked() -> None:
    class Dead:
        def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
            raise BackendError("connection refused")

    def careful() -> Program[str]:
        try:
            yield from complete([ask("hi")])
        except BackendError as error:
            return f"went on without: {error}"
        return "answered"

    def idle() -> Program[str]:
        yield from recall([])
        return "never asked"

    ports = Ports(llm=Dead(), memory=NoMemory())
    results = run_many([conversation("a", [1]), careful(), idle()], ports)  # type: ignore[list-item]
    assert results[0].reason == "BackendError: connection refused"
    assert results[1].value == "went on without: connection refused"
    assert results[2].value == "never asked"


class Short(Served):
    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        return [ModelReply("one")]


def test_a_model_that_miscounts_is_refused() -> None:

    with pytest.raises(BackendError, match="returned 1 replies to 2 requests"):
        run(conversation("a", [2]), Ports(llm=Short()))


def test_a_program_that_yields_something_else_fails_with_the_reason() -> None:
    def odd() -> Program[None]:
        yield ["please"]  # type: ignore[list-item]

    with pytest.raises(TypeError, match="yielded str"):
        run(odd(), Ports())


def test_a_missing_port_is_named() -> None:
    with pytest.raises(TypeError, match="asks a model, but none was given"):
        run(conversation("a", [1]), Ports())


def test_progress_is_told_after_every_round() -> None:
    rounds: list[Round] = []
    run_many(
        [conversation("a", [1, 2]), conversation("b", [3])],
        Ports(llm=Echo()),
        on_round=rounds.append,
    )
    assert rounds == [Round(1, 2, 1, 4), Round(2, 2, 2, 2)]


def test_programs_are_closed_when_the_driver_is_interrupted() -> None:
    closed: list[str] = []

    def watched() -> Program[None]:
        try:
            yield from complete([ask("hi")])
        finally:
            closed.append("closed")

    class Interrupted:
        def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_many([watched()], Ports(llm=Interrupted()))
    assert closed == ["closed"]


def test_a_served_model_that_miscounts_or_dies_fails_those_who_asked() -> None:
    class Closed(Served):
        def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
            raise BackendError("the connection is closed")

    miscounted, fine = run_many(
        [conversation("a", [2]), conversation("b", [1])], Ports(llm=Short())
    )
    assert miscounted.reason == "BackendError: the model returned 1 replies to 2 requests"
    assert fine.value == ["one"]
    (closed,) = run_many([conversation("a", [2])], Ports(llm=Closed()))
    assert closed.reason == "BackendError: the connection is closed"


def test_nobody_waits_for_another_ones_replies_of_a_served_model() -> None:
    release = threading.Event()

    class Slow(Served):
        """The slow one's reply comes only after the fast one has asked three times."""

        def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
            name = requests[0].messages[0].content
            if name.startswith("fast.2"):
                release.set()
            if name.startswith("slow"):
                assert release.wait(30), "the fast program waited for the slow one"
            return super().complete(requests)

    slow, fast = run_many(
        [conversation("slow", [1]), conversation("fast", [1, 1, 1])], Ports(llm=Slow())
    )
    assert slow.value == expected("slow", [1])
    assert fast.value == expected("fast", [1, 1, 1])


def test_a_served_model_is_asked_by_a_bounded_number_of_programs_at_once() -> None:
    under_way, most = [0], [0]

    def watched(name: str) -> Program[list[str]]:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        said = yield from conversation(name, [1, 1])
        under_way[0] -= 1
        return said

    def idle() -> Program[list[str]]:
        yield from recall([])
        return []

    programs = [
        *(idle() for _ in range(MOST_AT_ONCE)),
        *(watched(str(i)) for i in range(2 * MOST_AT_ONCE)),
    ]
    results = run_many(programs, Ports(Served(), NoMemory()))
    assert all(result.ok for result in results)
    assert most[0] == MOST_AT_ONCE


@either
def test_a_program_is_followed_by_the_next_until_there_is_none(
    model: Callable[[], Echo],
) -> None:
    told: list[tuple[int, list[str]]] = []

    def follow(place: int, result: Result[list[str]]) -> Program[list[str]] | None:
        told.append((place, result.unwrap()))
        done = sum(one == place for one, _ in told)
        return conversation(f"{place}+{done}", [1]) if done <= place else None

    results = run_many(
        [conversation("0", [1]), conversation("1", []), conversation("2", [2])],
        Ports(llm=model()),
        follow=follow,
    )
    assert [result.value for result in results] == [["<0.0.0>"], ["<1+1.0.0>"], ["<2+2.0.0>"]]
    assert [result.usage.requests for result in results] == [1, 1, 4]
    assert sorted(place for place, _ in told) == [0, 1, 1, 2, 2, 2]


@either
def test_what_saving_raises_stops_the_run(model: Callable[[], Echo]) -> None:
    def follow(place: int, result: Result[list[str]]) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run_many([conversation("a", [1])], Ports(llm=model()), follow=follow)


def test_cancelling_arun_frees_the_engine() -> None:
    class Hanging(Served):
        def __init__(self) -> None:
            super().__init__()
            self.future: Future[list[ModelReply]] = Future()

        def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
            return self.future

    model = Hanging()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(arun(conversation("a", [1]), Ports(llm=model)), 0.05)

    asyncio.run(give_up())
    assert model.future.cancelled()

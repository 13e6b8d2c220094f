"""Programs that do no input or output, and the drivers that run them.

A program is a generator: it yields a list of requests and is sent the list of replies. It reads
as the algorithm of one user; the drivers make it one user, thousands in one batch, or a task of
an async server. Laws, held by tests:

- replies reach the program that asked, in the order it asked;
- one round of `run_many` is one call of the model, however many programs wait;
- a program that raises yields a failed result with its reason and disturbs no other;
- for a deterministic model, `run_many` equals a map of `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, cast

from persona_agent.errors import BackendError, StoreError
from persona_agent.ports import LLM, Memory, Tool
from persona_agent.types import (
    ModelReply,
    ModelRequest,
    RecallReply,
    RecallRequest,
    Reply,
    Request,
    Scope,
    ToolReply,
    ToolRequest,
    Usage,
)

T = TypeVar("T")
R = TypeVar("R", ModelReply, RecallReply, ToolReply)

Program: TypeAlias = Generator[Sequence[Request], list[Reply], T]

TOOL_THREADS = 16


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside that a driver connects programs to. A program may use only what is given."""

    llm: LLM | None = None
    memory: Memory | None = None
    tools: Mapping[str, Tool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """How a program ended: with a value, or with the error that stopped it."""

    value: T | None = None
    error: Exception | None = None
    rounds: int = 0
    usage: Usage = Usage()

    @property
    def ok(self) -> bool:
        """Whether the program returned."""
        return self.error is None

    @property
    def reason(self) -> str:
        """Why it failed, in words; empty when it did not."""
        return "" if self.error is None else f"{type(self.error).__name__}: {self.error}"

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast(T, self.value)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of `run_many` did, for progress reports."""

    number: int
    programs: int
    finished: int
    model_requests: int


def complete(requests: Sequence[ModelRequest]) -> Program[list[ModelReply]]:
    """Return the model's replies to `requests`; use as `replies = yield from complete(...)`."""
    return _typed((yield requests), ModelReply)


def recall(requests: Sequence[RecallRequest]) -> Program[list[RecallReply]]:
    """Return what memory recalls for `requests`; use with `yield from`.

    Raises StoreError if one of them could not be served; other programs go on.
    """
    replies = _typed((yield requests), RecallReply)
    for reply in replies:
        if reply.error is not None:
            raise StoreError(reply.error)
    return replies


def call_tool(scope: Scope, name: str, arguments: Mapping[str, Any]) -> Program[ToolReply]:
    """Return the reply of one tool; use with `yield from`."""
    replies = yield [ToolRequest(scope, name, arguments)]
    return _typed(replies, ToolReply)[0]


def metered(program: Program[T]) -> Program[tuple[T, Usage]]:
    """Return what `program` returns and what its model requests cost; use with `yield from`."""
    usage = Usage()
    try:
        requests = next(program)
        while True:
            try:
                replies = yield requests
            except Exception as error:  # noqa: BLE001 - whatever a driver throws is the program's
                requests = program.throw(error)
                continue
            for reply in replies:
                if isinstance(reply, ModelReply):
                    usage += reply.usage
            requests = program.send(replies)
    except StopIteration as stop:
        return stop.value, usage
    finally:
        program.close()


def _typed(replies: list[Reply], kind: type[R]) -> list[R]:
    for reply in replies:
        if not isinstance(reply, kind):
            raise TypeError(f"a driver sent {type(reply).__name__} where {kind.__name__} was due")
    return cast("list[R]", replies)


def run(program: Program[T], ports: Ports) -> T:
    """Run one program to its end and return its value; raises what the program raises."""
    return run_many([program], ports)[0].unwrap()


def run_many(
    programs: Iterable[Program[T]],
    ports: Ports,
    *,
    on_round: Callable[[Round], None] | None = None,
) -> list[Result[T]]:
    """Run programs side by side and return their results in the order given.

    Each round gathers the requests of every program that waits: the model gets one batch, the
    memory gets one batch, tools run in threads. `on_round` is told after each round.
    """
    runs = [_Run(program) for program in programs]
    number = 0
    try:
        for one in runs:
            one.start()
        while waiting := [one for one in runs if one.result is None]:
            number += 1
            flat = [request for one in waiting for request in one.requests]
            served = _serve(flat, ports)
            _hand_out(waiting, served)
            if on_round is not None:
                asked = sum(isinstance(request, ModelRequest) for request in flat)
                finished = sum(one.result is not None for one in runs)
                on_round(Round(number, len(runs), finished, asked))
    finally:
        for one in runs:
            one.program.close()
    return [cast("Result[T]", one.result) for one in runs]


async def arun(program: Program[T], ports: Ports) -> T:
    """Run one program in an event loop: model, memory and tools work in threads meanwhile."""
    one = _Run(program)
    try:
        one.start()
        while one.result is None:
            served = await asyncio.to_thread(_serve, one.requests, ports)
            _hand_out([one], served)
    finally:
        program.close()
    return one.result.unwrap()


class _Run(Generic[T]):
    """One program under way: the requests it waits for, or its result."""

    def __init__(self, program: Program[T]) -> None:
        self.program = program
        self.requests: Sequence[Request] = ()
        self.result: Result[T] | None = None
        self._rounds = 0
        self._usage = Usage()

    def start(self) -> None:
        self._step(partial(next, self.program))

    def send(self, served: Sequence[Reply | Exception]) -> None:
        self._rounds += 1
        replies: list[Reply] = []
        for reply in served:
            if isinstance(reply, Exception):
                self._step(partial(self.program.throw, reply))
                return
            if isinstance(reply, ModelReply):
                self._usage += reply.usage
            replies.append(reply)
        self._step(partial(self.program.send, replies))

    def _step(self, step: Callable[[], Sequence[Request]]) -> None:
        try:
            requests = step()
            for request in requests:
                if not isinstance(request, (ModelRequest, RecallRequest, ToolRequest)):
                    raise TypeError(
                        f"a program yielded {type(request).__name__}; it must yield a list of "
                        "ModelRequest, RecallRequest or ToolRequest"
                    )
            self.requests = requests
        except StopIteration as stop:
            self.result = Result(value=stop.value, rounds=self._rounds, usage=self._usage)
        except Exception as error:  # noqa: BLE001 - one program's failure is data to the others
            self.result = Result(error=error, rounds=self._rounds, usage=self._usage)


def _hand_out(waiting: Sequence[_Run[T]], served: Sequence[Reply | Exception]) -> None:
    start = 0
    for one in waiting:
        end = start + len(one.requests)
        one.send(served[start:end])
        start = end


def _serve(requests: Sequence[Request], ports: Ports) -> list[Reply | Exception]:
    """Return one reply a request, in order; an exception stands where a whole port failed."""
    served: list[Reply | Exception] = [
        TypeError(f"no port serves {type(request).__name__}") for request in requests
    ]
    model = [i for i, request in enumerate(requests) if isinstance(request, ModelRequest)]
    memory = [i for i, request in enumerate(requests) if isinstance(request, RecallRequest)]
    tools = [i for i, request in enumerate(requests) if isinstance(request, ToolRequest)]
    if memory:
        batch = [cast(RecallRequest, requests[i]) for i in memory]
        _fill(served, memory, _recall(ports.memory, batch))
    if tools:
        calls = [cast(ToolRequest, requests[i]) for i in tools]
        _fill(served, tools, _call_tools(ports.tools, calls))
    if model:
        asked = [cast(ModelRequest, requests[i]) for i in model]
        _fill(served, model, _complete(ports.llm, asked))
    return served


def _fill(
    served: list[Reply | Exception], places: Sequence[int], replies: Sequence[Reply | Exception]
) -> None:
    for place, reply in zip(places, replies, strict=True):
        served[place] = reply


def _complete(llm: LLM | None, requests: list[ModelRequest]) -> Sequence[Reply | Exception]:
    if llm is None:
        return [TypeError("the program asks a model, but none was given")] * len(requests)
    try:
        return _counted(llm.complete(requests), len(requests), "the model")
    except Exception as error:  # noqa: BLE001 - thrown into every program that asked
        return [error] * len(requests)


def _recall(memory: Memory | None, requests: list[RecallRequest]) -> Sequence[Reply | Exception]:
    if memory is None:
        return [TypeError("the program recalls, but no memory was given")] * len(requests)
    try:
        return _counted(memory.recall(requests), len(requests), "the memory")
    except Exception as error:  # noqa: BLE001 - thrown into every program that asked
        return [error] * len(requests)


def _counted(replies: list[R], wanted: int, who: str) -> list[R]:
    if len(replies) != wanted:
        raise BackendError(f"{who} returned {len(replies)} replies to {wanted} requests")
    return replies


def _call_tools(tools: Mapping[str, Tool], requests: list[ToolRequest]) -> list[ToolReply]:
    if len(requests) == 1:
        return [_call_tool(tools, requests[0])]
    with ThreadPoolExecutor(min(len(requests), TOOL_THREADS)) as pool:
        return list(pool.map(lambda request: _call_tool(tools, request), requests))


def _call_tool(tools: Mapping[str, Tool], request: ToolRequest) -> ToolReply:
    tool = tools.get(request.name)
    if tool is None:
        known = ", ".join(sorted(tools)) or "none"
        return ToolReply(error=f"there is no tool {request.name!r}; known tools: {known}")
    try:
        return ToolReply(text=tool.call(request.scope, request.arguments))
    except Exception as error:  # noqa: BLE001 - a caller's function: its failure is data
        return ToolReply(error=f"{type(error).__name__}: {error}")

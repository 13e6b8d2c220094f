"""The drivers of programs: one user, thousands in one batch, or a task of an event loop.

Laws, held by tests:

- replies reach the program that asked, in the order it asked;
- one round of `run_many` is one call of the model, however many programs wait, unless the model
  works on many batches at once: then nobody waits for another's replies;
- a program that raises yields a failed result with its reason and disturbs no other;
- for a deterministic model, `run_many` equals a map of `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeAlias, TypeVar, cast

from persona_agent.errors import BackendError
from persona_agent.ports import LLM, ConcurrentLLM, Memory, Tool
from persona_agent.program import Program, Result
from persona_agent.types import (
    ModelReply,
    ModelRequest,
    RecallReply,
    RecallRequest,
    Reply,
    Request,
    ToolReply,
    ToolRequest,
    Usage,
)

T = TypeVar("T")
R = TypeVar("R", ModelReply, RecallReply)

TOOL_THREADS = 16
MOST_AT_ONCE = 1024  # programs under way on a served model, which queues what they ask


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside that a driver connects programs to. A program may use only what is given."""

    llm: LLM | None = None
    memory: Memory | None = None
    tools: Mapping[str, Tool] = field(default_factory=dict)


# Told the place and the result of a program that ended; returns the next one there, or None.
Follow: TypeAlias = Callable[[int, Result[T]], Program[T] | None]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of `run_many` did, for progress reports."""

    number: int
    programs: int
    finished: int
    model_requests: int


def run(program: Program[T], ports: Ports) -> T:
    """Run one program to its end and return its value; raises what the program raises."""
    return run_many([program], ports)[0].unwrap()


def run_many(
    programs: Iterable[Program[T]],
    ports: Ports,
    *,
    follow: Follow[T] | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> list[Result[T]]:
    """Run programs side by side and return their results in the order given.

    Each round gathers the requests of every program that waits: the model gets one batch, the
    memory gets one batch, tools run in threads. A model that works on many batches at once
    (`ConcurrentLLM`) needs no such rounds: each program advances as soon as its own replies are
    in, with the same results; what waits then is still recalled in one batch.

    `follow` is told the place and result of each program that ended, and may return the next
    program of that place; the result is that of the last one, with the usage of all. It is the
    place to save what was reached, and what it raises stops the run. `on_round` is told after
    each round.
    """
    runs = [_Run(program) for program in programs]
    drive = _Drive(runs, ports, follow, on_round)
    try:
        if isinstance(ports.llm, ConcurrentLLM):
            drive.as_replies_come(ports.llm)
        else:
            drive.in_rounds()
    finally:
        for one in runs:
            one.program.close()
    return [cast("Result[T]", one.result) for one in runs]


async def arun(program: Program[T], ports: Ports) -> T:
    """Run one program in an event loop: model, memory and tools work in threads meanwhile.

    Cancelling it frees the engine, where the model is a `ConcurrentLLM`.
    """
    one = _Run(program)
    try:
        one.start()
        while one.result is None:
            one.send(await _served_aside(one.requests, ports))
    finally:
        one.program.close()
    return one.result.unwrap()


async def _served_aside(requests: Sequence[Request], ports: Ports) -> list[Reply | Exception]:
    if not isinstance(ports.llm, ConcurrentLLM):
        return await asyncio.to_thread(_serve, requests, ports)
    places, asked = _model_requests(requests)
    future = ports.llm.submit(asked) if asked else None
    try:
        served = await asyncio.to_thread(_serve, requests, replace(ports, llm=None))
        if future is not None:
            await asyncio.wait([asyncio.wrap_future(future)])
            _fill(served, places, _outcome(future, len(asked)))
    finally:
        if future is not None:
            future.cancel()
    return served


class _Drive(Generic[T]):
    """The programs of one `run_many`, driven in rounds or as their replies come."""

    def __init__(
        self,
        runs: Sequence[_Run[T]],
        ports: Ports,
        follow: Follow[T] | None,
        on_round: Callable[[Round], None] | None,
    ) -> None:
        self._runs = runs
        self._ports = ports
        self._follow = follow
        self._on_round = on_round
        self._number = 0
        self._finished = 0

    def in_rounds(self) -> None:
        """One batch of the model a round, of all programs that wait."""
        for place in range(len(self._runs)):
            self._begin(place)
        while waiting := [place for place, one in enumerate(self._runs) if one.result is None]:
            flat = [request for place in waiting for request in self._runs[place].requests]
            served = _serve(flat, self._ports)
            start = 0
            for place in waiting:
                end = start + len(self._runs[place].requests)
                self._send(place, served[start:end])
                start = end
            self._tell(sum(isinstance(request, ModelRequest) for request in flat))

    def as_replies_come(self, llm: ConcurrentLLM) -> None:
        """No program waits for another's replies; at most MOST_AT_ONCE are under way."""
        arrived: SimpleQueue[int] = SimpleQueue()
        out: dict[int, _Out] = {}
        begun = 0
        local = replace(self._ports, llm=None)
        asking: list[int] = []
        try:
            while True:
                while begun - self._finished < MOST_AT_ONCE and begun < len(self._runs):
                    self._begin(begun)
                    asking.append(begun)
                    begun += 1
                self._ask(asking, llm, local, out, arrived)
                if not out and begun == len(self._runs):
                    return
                asking = _all_in(arrived) if out else []
                done = {place: out.pop(place) for place in asking}
                for place, one in done.items():
                    _fill(one.served, one.places, _outcome(one.future, len(one.places)))
                    self._send(place, one.served)
                self._tell(sum(len(one.places) for one in done.values()))
        finally:
            for one in out.values():
                one.future.cancel()

    def _ask(
        self,
        asking: list[int],
        llm: ConcurrentLLM,
        local: Ports,
        out: dict[int, _Out],
        arrived: SimpleQueue[int],
    ) -> None:
        """Submit what these programs ask the model, and serve the rest of it meanwhile.

        Those that ask no model are sent their replies, again and again, until all wait for one.
        """
        while asking := [place for place in asking if self._runs[place].result is None]:
            submitted = {}
            for place in asking:
                places, asked = _model_requests(self._runs[place].requests)
                if asked:
                    submitted[place] = (places, _submit(llm, asked))
            flat = [request for place in asking for request in self._runs[place].requests]
            served = _serve(flat, local)
            start, again = 0, []
            for place in asking:
                end = start + len(self._runs[place].requests)
                if place in submitted:
                    places, future = submitted[place]
                    out[place] = _Out(future, places, served[start:end])
                    future.add_done_callback(lambda _, place=place: arrived.put(place))  # type: ignore[misc]
                else:
                    self._send(place, served[start:end])
                    again.append(place)
                start = end
            asking = again

    def _begin(self, place: int) -> None:
        self._runs[place].start()
        self._end(place)

    def _send(self, place: int, served: Sequence[Reply | Exception]) -> None:
        self._runs[place].send(served)
        self._end(place)

    def _end(self, place: int) -> None:
        """Follow a program that has ended by the next, as long as there is one."""
        one = self._runs[place]
        while one.result is not None:
            after = self._follow(place, one.result) if self._follow is not None else None
            if after is None:
                self._finished += 1
                return
            one.go_on(after)

    def _tell(self, model_requests: int) -> None:
        self._number += 1
        if self._on_round is not None:
            self._on_round(Round(self._number, len(self._runs), self._finished, model_requests))


@dataclass(frozen=True, slots=True)
class _Out:
    """What one program waits for: the model's replies, and beside them what is served already."""

    future: Future[list[ModelReply]]
    places: Sequence[int]
    served: list[Reply | Exception]


def _all_in(arrived: SimpleQueue[int]) -> list[int]:
    """Return what has arrived, at least one."""
    come = [arrived.get()]
    while not arrived.empty():
        come.append(arrived.get())
    return come


def _submit(llm: ConcurrentLLM, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
    try:
        return llm.submit(requests)
    except Exception as error:  # noqa: BLE001 - thrown into the program that asked
        failed: Future[list[ModelReply]] = Future()
        failed.set_exception(error)
        return failed


def _outcome(
    future: Future[list[ModelReply]], wanted: int
) -> Sequence[ModelReply] | Sequence[Exception]:
    """Return the replies of a future that is done, or its error once a request."""
    try:
        return _counted(future.result(), wanted, "the model")
    except CancelledError:
        return [BackendError("the requests were cancelled")] * wanted
    except Exception as error:  # noqa: BLE001 - thrown into the program that asked
        return [error] * wanted


def _model_requests(requests: Sequence[Request]) -> tuple[list[int], list[ModelRequest]]:
    """Return the requests for the model, and their places."""
    places = [i for i, request in enumerate(requests) if isinstance(request, ModelRequest)]
    return places, [cast(ModelRequest, requests[i]) for i in places]


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

    def go_on(self, program: Program[T]) -> None:
        """Go on with another program in the place of the one that ended."""
        self.program = program
        self.result = None
        self.start()

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


def _serve(requests: Sequence[Request], ports: Ports) -> list[Reply | Exception]:
    """Return one reply a request, in order; an exception stands where a whole port failed."""
    served: list[Reply | Exception] = [
        TypeError(f"no port serves {type(request).__name__}") for request in requests
    ]
    model, asked = _model_requests(requests)
    memory = [i for i, request in enumerate(requests) if isinstance(request, RecallRequest)]
    tools = [i for i, request in enumerate(requests) if isinstance(request, ToolRequest)]
    if memory:
        batch = [cast(RecallRequest, requests[i]) for i in memory]
        _fill(served, memory, _recall(ports.memory, batch))
    if tools:
        calls = [cast(ToolRequest, requests[i]) for i in tools]
        _fill(served, tools, _call_tools(ports.tools, calls))
    if model:
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

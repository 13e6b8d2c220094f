"""Programs that do no input or output: generators that yield requests and are sent replies.

A program reads as the algorithm of one user; the drivers (`drive`) make it one user, thousands in
one batch, or a task of an async server.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar, cast

from persona_agent.errors import StoreError
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

    def count(replies: list[Reply]) -> None:
        nonlocal usage
        for reply in replies:
            if isinstance(reply, ModelReply):
                usage += reply.usage

    value = yield from relayed(program, inward=count)
    return value, usage


def salted(program: Program[T], salt: str | None) -> Program[T]:
    """Return what `program` returns; its model requests carry `salt`, whatever they carried."""

    def mark(requests: Sequence[Request]) -> Sequence[Request]:
        return [
            replace(one, cache_salt=salt) if isinstance(one, ModelRequest) else one
            for one in requests
        ]

    return relayed(program, outward=mark)


def adapted(program: Program[T], adapter: str | None) -> Program[T]:
    """Return what `program` returns; its model requests that name no adapter use `adapter`."""

    def mark(requests: Sequence[Request]) -> Sequence[Request]:
        return [
            replace(one, adapter=adapter)
            if isinstance(one, ModelRequest) and one.adapter is None
            else one
            for one in requests
        ]

    return relayed(program, outward=mark)


def relayed(
    program: Program[T],
    outward: Callable[[Sequence[Request]], Sequence[Request]] = lambda requests: requests,
    inward: Callable[[list[Reply]], None] = lambda replies: None,
) -> Program[T]:
    """Return what `program` returns; what goes out is sent on as `outward` gives it back.

    `inward` is told what comes in.
    """
    try:
        requests = next(program)
        while True:
            try:
                replies = yield outward(requests)
            except Exception as error:  # noqa: BLE001 - whatever a driver throws is the program's
                requests = program.throw(error)
                continue
            inward(replies)
            requests = program.send(replies)
    except StopIteration as stop:
        return cast(T, stop.value)
    finally:
        program.close()


def _typed(replies: list[Reply], kind: type[R]) -> list[R]:
    for reply in replies:
        if not isinstance(reply, kind):
            raise TypeError(f"a driver sent {type(reply).__name__} where {kind.__name__} was due")
    return cast("list[R]", replies)

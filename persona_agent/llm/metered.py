"""A model that counts what it is asked: a wrapper for cost reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from persona_agent.ports import LLM
from persona_agent.types import ModelReply, ModelRequest, Record, Usage


@dataclass(frozen=True, slots=True)
class Spent(Record):
    """What a model was asked, and how many seconds it was busy with it."""

    usage: Usage = Usage()
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usage + other.usage, self.seconds + other.seconds)


class MeteredLLM:
    """A model that counts usage and its own time, for callers that ask from one thread at a time.

    What is not in `usage` of the replies is not counted but as a request: an endpoint that tells
    no tokens has none here.
    """

    def __init__(self, inner: LLM, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._inner = inner
        self._clock = clock
        self._spent = Spent()
        self._closed = False

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the inner model's replies, in order."""
        begun = self._clock()
        usage = Usage()
        try:
            replies = self._inner.complete(requests)
            usage = sum((reply.usage for reply in replies), usage)
        finally:
            asked = replace(usage, requests=len(requests))
            self._spent += Spent(asked, self._clock() - begun)
        return replies

    def take(self) -> Spent:
        """Return what was spent since the last call, and begin again at nothing."""
        spent, self._spent = self._spent, Spent()
        return spent

    def close(self) -> None:
        """Close the inner model, if it is one that holds something. Twice is harmless."""
        close = getattr(self._inner, "close", None)
        if close is not None and not self._closed:
            close()
        self._closed = True

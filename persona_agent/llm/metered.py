"""A model that counts what it is asked: a wrapper for cost reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from persona_agent.ports import LLM, ConcurrentLLM, SaltedLLM
from persona_agent.types import ModelReply, ModelRequest, Record, Usage

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spent(Record):
    """What a model was asked, and how many seconds it was busy with it."""

    usage: Usage = Usage()
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usage + other.usage, self.seconds + other.seconds)


def metered(inner: LLM, *, clock: Clock = time.perf_counter) -> MeteredLLM:
    """Return `inner` with a meter; what is concurrent, or keeps salts apart, still is and does."""
    if isinstance(inner, ConcurrentLLM):
        return ConcurrentMeteredLLM(inner, clock=clock)
    return MeteredLLM(inner, clock=clock)


class MeteredLLM:
    """A model that counts usage, and the time in which it had something to do.

    Calls at the same time count their time once. What is not in `usage` of the replies is not
    counted but as a request: an endpoint that tells no tokens has none here.
    """

    def __init__(self, inner: LLM, *, clock: Clock = time.perf_counter) -> None:
        self._inner = inner
        self._clock = clock
        self._lock = threading.Lock()
        self._spent = Spent()
        self._out = 0  # calls under way, since `_since`
        self._since = 0.0
        self._closed = False

    @property
    def honours_salt(self) -> bool:
        """Whether the inner model keeps the prefix caches of different salts apart."""
        return isinstance(self._inner, SaltedLLM) and self._inner.honours_salt

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the inner model's replies, in order."""
        self._begin()
        replies: list[ModelReply] = []
        try:
            replies = self._inner.complete(requests)
        finally:
            self._end(len(requests), replies)
        return replies

    def take(self) -> Spent:
        """Return what was spent since the last call, and begin again at nothing."""
        with self._lock:
            spent, self._spent = self._spent, Spent()
        return spent

    def close(self) -> None:
        """Close the inner model, if it is one that holds something. Twice is harmless."""
        close = getattr(self._inner, "close", None)
        if close is not None and not self._closed:
            close()
        self._closed = True

    def _begin(self) -> None:
        with self._lock:
            if not self._out:
                self._since = self._clock()
            self._out += 1

    def _end(self, asked: int, replies: Sequence[ModelReply]) -> None:
        usage = sum((reply.usage for reply in replies), Usage())
        with self._lock:
            self._out -= 1
            seconds = 0.0 if self._out else self._clock() - self._since
            self._spent += Spent(replace(usage, requests=asked), seconds)


class ConcurrentMeteredLLM(MeteredLLM):
    """The same around a model that works on many batches at once."""

    def __init__(self, inner: ConcurrentLLM, *, clock: Clock = time.perf_counter) -> None:
        super().__init__(inner, clock=clock)
        self._concurrent = inner

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        """Return the inner model's future, which is counted when it is done or cancelled."""
        self._begin()
        try:
            future = self._concurrent.submit(requests)
        except BaseException:
            self._end(len(requests), ())
            raise

        def note(done: Future[list[ModelReply]]) -> None:
            answered = not done.cancelled() and done.exception() is None
            self._end(len(requests), done.result() if answered else ())

        future.add_done_callback(note)
        return future

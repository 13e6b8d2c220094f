"""Gathering: what many requests ask at the same time is worked on in one batch.

A thread of its own takes all that waits, does it in one call, and hands each its own result. Under
load batches grow by themselves; alone, a request waits for nobody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from queue import SimpleQueue
from typing import Generic, TypeVar

from persona_agent.closing import Closing

Q = TypeVar("Q")
R = TypeVar("R")

MOST = 8  # an embedder is hardly faster with more, and nobody waits for sixty others


class Gathering(Closing, Generic[Q, R]):
    """Turns a function of batches into an awaitable of singles."""

    def __init__(
        self, work: Callable[[Sequence[Q]], Sequence[R | Exception]], *, name: str, most: int = MOST
    ) -> None:
        """Use `work`, which returns a result or an error for each question, in order."""
        self._work = work
        self._most = most
        self._queue: SimpleQueue[tuple[Q, Future[R]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def ask(self, question: Q) -> R:
        """Return the result for one question; raises what its batch made of it."""
        future: Future[R] = Future()
        self._queue.put((question, future))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            ends = False
            while len(batch) < self._most and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    ends = True
                    break
                batch.append(more)
            self._do([one for one in batch if one[1].set_running_or_notify_cancel()])
            if ends:
                return

    def _do(self, batch: Sequence[tuple[Q, Future[R]]]) -> None:
        if not batch:
            return
        results: Sequence[R | Exception]
        try:
            results = self._work([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001  # it is handed to everybody who waits
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            hand(future, result)


def hand(future: Future[R], result: R | Exception) -> None:
    """Settle a future, unless who asked went away and cancelled it."""
    try:
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
    except InvalidStateError:
        return

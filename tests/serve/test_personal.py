"""Asking memory: a deadline, and rest for a memory that keeps missing it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from persona_agent.context import Context
from persona_agent.errors import StoreError
from persona_agent.llm.breaker import Breaker
from persona_agent.serve.known import Question
from persona_agent.serve.personal import Asked
from persona_agent.types import Scope

QUESTION = Question(Scope("ann"), "Tea?")


class Memory:
    """A memory that answers, raises, or never answers."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.error: Exception | None = None
        self.hangs = False

    async def ask(self, question: Question) -> Context:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return Context("Likes tea.", 3)

    def through(self) -> Asked:
        breaker = Breaker(2, 5.0)
        return Asked(self.ask, deadline_s=0.01, breaker=breaker, clock=lambda: self.now)


def reasons(work: Callable[[], Awaitable[list[str]]]) -> list[str]:
    async def run() -> list[str]:
        return await work()

    return asyncio.run(run())


def test_what_is_known_is_used_and_told() -> None:
    async def work() -> dict[str, str]:
        return (await Memory().through().personal(QUESTION)).headers("t1")

    told = asyncio.run(work())
    assert (told["x-persona-memory"], told["x-persona-version"]) == ("used", "3")
    assert told["x-persona-turn"] == "t1"


@pytest.mark.parametrize(
    ("error", "reason"), [(StoreError("gone"), "StoreError"), (RuntimeError("a bug"), "internal")]
)
def test_a_memory_that_fails_at_once_is_asked_every_time(error: Exception, reason: str) -> None:
    memory = Memory()
    memory.error = error

    async def work() -> list[str]:
        asked = memory.through()
        return [(await asked.personal(QUESTION)).reason for _ in range(4)]

    assert reasons(work) == [reason] * 4
    assert memory.asked == 4


def test_a_memory_that_hangs_rests_and_one_question_finds_out_whether_it_works_again() -> None:
    memory = Memory()
    memory.hangs = True

    async def work() -> list[str]:
        asked = memory.through()
        told = [(await asked.personal(QUESTION)).reason for _ in range(4)]
        memory.now += 6
        both = await asyncio.gather(asked.personal(QUESTION), asked.personal(QUESTION))
        told += [one.reason for one in both]
        memory.now += 6
        memory.hangs = False
        return [*told, *[(await asked.personal(QUESTION)).status for _ in range(2)]]

    rests = ["timeout", "timeout", "resting", "resting"]
    assert reasons(work) == [*rests, "timeout", "resting", "used", "used"]
    assert memory.asked == 5


def test_a_probe_that_is_cancelled_leaves_the_next_to_try() -> None:
    memory = Memory()
    memory.hangs = True

    async def work() -> list[str]:
        asked = memory.through()
        for _ in range(2):
            await asked.personal(QUESTION)
        memory.now += 6
        probe = asyncio.create_task(asked.personal(QUESTION))
        await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        memory.hangs = False
        return [(await asked.personal(QUESTION)).status]

    assert reasons(work) == ["used"]

"""What memory gives for an answer, and that it never stands in the answer's way.

It has a deadline. A memory that misses it several times in a row is left alone for a while: one
question then finds out whether it works again, and the others do not wait for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from persona_agent.context import Context
from persona_agent.errors import PersonaAgentError
from persona_agent.llm.breaker import Breaker
from persona_agent.serve.known import Question

log = logging.getLogger("persona_agent.serve")

MOST_NAMED = 32  # memories in the header
LIMIT = 5  # deadlines missed in a row
PAUSE_S = 1.0  # short: a crowd that was too much for a moment is no broken memory


@dataclass(frozen=True, slots=True)
class Personal:
    """What memory gave for an answer: the context, or why there is none."""

    context: Context = Context()
    status: Literal["used", "none", "degraded", "off"] = "off"
    reason: str = ""

    def headers(self, turn_id: str | None) -> dict[str, str]:
        """Return what tells the client; `turn_id` is None for a turn that is not remembered."""
        told = {
            "x-persona-memory": f"{self.status}; {self.reason}" if self.reason else self.status,
            "x-persona-version": str(self.context.persona_version),
            "x-persona-memories": _names([one.id for one in self.context.memories]),
            "x-persona-facts": _names([one.id for one in self.context.facts]),
        }
        return told if turn_id is None else {**told, "x-persona-turn": turn_id}


class Asked:
    """Asks the memory for answers. For one event loop."""

    def __init__(
        self,
        ask: Callable[[Question], Awaitable[Context]],
        *,
        deadline_s: float,
        breaker: Breaker = Breaker(LIMIT, PAUSE_S),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `ask`, which may take `deadline_s`; `clock` tells seconds."""
        self._ask = ask
        self._deadline_s = deadline_s
        self._breaker = breaker
        self._clock = clock

    async def personal(self, question: Question) -> Personal:
        """Return what is known, or why nothing is; never raises for what memory does."""
        verdict = self._breaker.verdict(self._clock())
        if verdict in ("refuse", "wait"):
            return _degraded("resting")
        if verdict == "probe":
            self._breaker = self._breaker.probed()
        try:
            async with asyncio.timeout(self._deadline_s):
                found = await self._ask(question)
        except TimeoutError:
            self._breaker = self._breaker.failed(self._clock(), "timeout")
            return _degraded("timeout")
        except asyncio.CancelledError:
            self._breaker = self._breaker.abandoned()
            raise
        except Exception as error:  # whatever broke, the user gets an answer
            self._breaker = self._breaker.succeeded()  # it answered, and cost nobody time
            if isinstance(error, PersonaAgentError):
                return _degraded(type(error).__name__)
            log.exception("memory failed on the chat path")
            return _degraded("internal")
        self._breaker = self._breaker.succeeded()
        return Personal(found, "used" if found.text else "none")


def _degraded(reason: str) -> Personal:
    log.warning("an answer was given without memory", extra={"reason": reason})
    return Personal(Context(), "degraded", reason)


def _names(some: Sequence[str]) -> str:
    """Return ids as one header's value: separated by commas, percent-encoded where need be."""
    return ",".join(quote(one, safe="") for one in some[:MOST_NAMED])

"""What goes into a request and what is kept of its answer, for one user; never at the call's cost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote

from persona_agent.agent import PersonaAgent
from persona_agent.clients.dialects import Dialect
from persona_agent.context import Context
from persona_agent.errors import UnknownUser
from persona_agent.types import Json, Record, Scope

LOG = logging.getLogger("persona_agent.clients")

STATUS_HEADER = "x-persona-memory"  # the server's headers have the same names
MOST_NAMED = 32  # memories or facts in a header


@dataclass(frozen=True, slots=True)
class MemoryTrouble(Record):
    """What the memory could not do for a call that went through nevertheless."""

    doing: Literal["recall", "remember"]
    user_id: str
    reason: str


OnTrouble: TypeAlias = Callable[[MemoryTrouble], None]


def log_trouble(trouble: MemoryTrouble) -> None:
    """Log a warning; it holds the user's id and the reason, none of what was said."""
    LOG.warning(
        "the call for user %r went through without memory: it could not %s: %s",
        trouble.user_id,
        trouble.doing,
        trouble.reason,
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way: the bytes to send, the user's words, and what the model is told."""

    dialect: Dialect
    raw: bytes
    query: str = ""
    is_stream: bool = False
    context: Context = Context()
    is_degraded: bool = False

    def headers(self) -> Mapping[str, str]:
        """Return the headers that tell of the memory's part in the answer, as the server's do."""
        known = self.context
        status = "degraded" if self.is_degraded else "used" if known.text else "none"
        return {
            STATUS_HEADER: status,
            "x-persona-version": str(known.persona_version),
            "x-persona-memories": _names([one.id for one in known.memories]),
            "x-persona-facts": _names([one.id for one in known.facts]),
        }


class Companion:
    """The memory of one user beside a client: `begin` a call, and `end` it with its answer.

    Whatever goes wrong in the memory is told to `on_trouble`, and the call goes on without it.
    """

    def __init__(
        self,
        agent: PersonaAgent,
        scope: Scope,
        *,
        max_tokens: int,
        remember: bool,
        on_trouble: OnTrouble,
    ) -> None:
        self._agent = agent
        self._scope = scope
        self._max_tokens = max_tokens
        self._remember = remember
        self._on_trouble = on_trouble

    def begin(self, dialect: Dialect, raw: bytes) -> Call:
        """Return the request with what is known of the user; as it was if nothing is."""
        try:
            body = json.loads(raw)
        except ValueError:
            return Call(dialect, raw)
        if not isinstance(body, dict):
            return Call(dialect, raw)
        is_stream = bool(body.get("stream"))
        *earlier, query = dialect.said(body) or [""]
        try:
            context = self._agent.know(
                self._scope.user, query, max_tokens=self._max_tokens, shown=set(earlier)
            )
        except UnknownUser:
            return Call(dialect, raw, query, is_stream)
        except Exception as error:  # noqa: BLE001  # no fault of a memory may cost the answer
            self._tell("recall", error)
            return Call(dialect, raw, query, is_stream, is_degraded=True)
        if context.text:
            raw = json.dumps(dialect.instructed(body, context.instructions)).encode()
        return Call(dialect, raw, query, is_stream, context)

    def end(self, call: Call, answer: str | None, *, is_whole: bool = True) -> bool:
        """Remember the turn, if it has both sides; return False if that failed.

        An answer that is not whole, because its reader left early, is marked `cut`.
        """
        if not self._remember or not call.query or answer is None:
            return True
        turn: list[Mapping[str, Json]] = [
            {"role": "user", "content": call.query},
            {"role": "assistant", "content": answer},
        ]
        try:
            self._agent.add(
                turn,
                user_id=self._scope.user,
                agent_id=self._scope.agent,
                run_id=self._scope.run,
                metadata=None if is_whole else {"cut": True},
            )
        except Exception as error:  # noqa: BLE001  # no fault of a memory may cost the answer
            self._tell("remember", error)
            return False
        return True

    def close(self) -> None:
        """Close the agent."""
        self._agent.close()

    def _tell(self, doing: Literal["recall", "remember"], error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._on_trouble(MemoryTrouble(doing, self._scope.user, reason))


def _names(ids: Sequence[str]) -> str:
    """Return ids as one header's value: separated by commas, percent-encoded where need be."""
    return ",".join(quote(one, safe="") for one in ids[:MOST_NAMED])

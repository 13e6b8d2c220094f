"""Chat: the client's request with what is known of the user, the upstream's answer untouched.

Memory never stands in the way: if it fails or takes too long, the answer comes without, and a
header says so. What was said is on the disk before the answer ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from persona_agent.serve import messages as chat
from persona_agent.serve.errors import ApiError, bad, body
from persona_agent.serve.identity import chat_scope
from persona_agent.serve.known import Question
from persona_agent.serve.personal import Personal
from persona_agent.serve.request import caller_of, headers_of, json_of, service_of
from persona_agent.serve.schemas import CHAT_BODY, ERRORS
from persona_agent.serve.service import Service
from persona_agent.serve.turns import turn
from persona_agent.serve.upstream import Answered
from persona_agent.types import Scope

router = APIRouter(tags=["OpenAI"])
log = logging.getLogger("persona_agent.serve")


@dataclass(frozen=True, slots=True)
class Talk:
    """A chat request read: for whom, what was said, and the id that its turn will have."""

    scope: Scope
    body: Mapping[str, Any]  # Any: the client's JSON
    turn_id: str

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """The client's messages."""
        found: list[Mapping[str, Any]] = self.body["messages"]
        return found

    @property
    def asked(self) -> Sequence[Mapping[str, Any]]:
        """The messages up to the user's words that are answered; empty where nobody asked."""
        found = chat.asked(self.messages)
        return found if found and chat.text_of(found[-1].get("content")).strip() else ()

    @property
    def goes_on(self) -> bool:
        """Whether a tool's result stands after the user's words: the turn has begun before."""
        return len(self.asked) < len(self.messages)


@router.post("/v1/chat/completions", openapi_extra=CHAT_BODY, responses=ERRORS)
async def chat_completions(request: Request) -> Response:
    """Answer a chat as OpenAI does, with the user's persona and memories in the system prompt.

    The headers X-Persona-Version, X-Persona-Memories and X-Persona-Facts say what was used,
    X-Persona-Memory whether memory worked, X-Persona-Turn the id that feedback takes.
    """
    service = service_of(request)
    caller = await caller_of(request)
    headers = headers_of(request)
    given = chat.checked(await json_of(request))
    scope = chat_scope(caller, headers, given)
    talk = Talk(scope, given, _turn_id(scope, headers))
    wants = _wants(headers)
    personal = await _personal(service, talk) if "recall" in wants else Personal()
    service.metrics.chats.labels(personal.status).inc()
    sent = await _upstream_body(service, talk, personal)
    with service.span("persona_agent.serve.upstream"):
        answer = await service.upstream.post("/chat/completions", sent, headers)
    keeps = "remember" in wants and service.config.memory.remember and answer.status < 300
    recorder = _Recorder(service, talk, answer, keeps and bool(talk.asked))
    told = {**answer.headers, **personal.headers(recorder.turn_id)}
    if answer.is_stream:
        told |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(recorder.stream(), answer.status, told)
    return Response(await recorder.whole(), answer.status, told)


async def _personal(service: Service, talk: Talk) -> Personal:
    question = Question(talk.scope, chat.question(talk.messages), chat.said_before(talk.messages))
    begun = time.perf_counter()
    with service.span("persona_agent.serve.know"):
        found = await service.asked.personal(question)
    service.metrics.known_seconds.observe(time.perf_counter() - begun)
    return found


async def _upstream_body(service: Service, talk: Talk, personal: Personal) -> dict[str, Any]:
    """Return the client's body with what is known in it, and with our salt or none."""
    sent = {**talk.body}
    sent["messages"] = chat.with_instructions(talk.messages, personal.context.instructions)
    sent.pop("cache_salt", None)
    salt = service.salts.of(talk.scope)
    if salt is not None and await service.upstream.takes_salt():
        sent["cache_salt"] = salt
    return sent


class _Recorder:
    """Passes an answer on, and keeps the turn before its end is sent."""

    def __init__(self, service: Service, talk: Talk, answer: Answered, keeps: bool) -> None:
        self._service = service
        self._talk = talk
        self._answer = answer
        self._keeps = keeps

    @property
    def turn_id(self) -> str | None:
        """The id of the turn that begins here, if one does and is kept."""
        return self._talk.turn_id if self._keeps and not self._talk.goes_on else None

    async def whole(self) -> bytes:
        """Return the answer's bytes, when the turn is on the disk."""
        raw = await self._answer.read()
        await self._keep(raw, cut=False)
        return raw

    async def stream(self) -> AsyncIterator[bytes]:
        """Give the answer's bytes as they come; the last wait for the turn to be on the disk."""
        raw = bytearray()
        kept = False
        try:
            async for chunk in self._answer.chunks:
                raw += chunk
                if not kept and b"data: [DONE]" in raw[-len(chunk) - 16 :]:
                    kept = True
                    await self._keep(bytes(raw), cut=False)
                yield chunk
            if not kept:
                kept = True
                await self._keep(bytes(raw), cut=False)
        except ApiError as error:  # the upstream broke off: the stream says so
            yield f"data: {json.dumps(body(error))}\n\n".encode()
        finally:
            if not kept:  # the client left, or the upstream did: what was said was said
                self._put(bytes(raw), cut=True)
            self._answer.close()

    async def _keep(self, raw: bytes, *, cut: bool) -> None:
        future = self._put(raw, cut=cut)
        if future is None:
            return
        try:
            await asyncio.wrap_future(future)
        except OSError as error:  # a full disk must not cost the answer
            log.error("a turn could not be written", extra={"reason": str(error)})
            self._service.metrics.turns.labels("lost").inc()

    def _put(self, raw: bytes, *, cut: bool) -> Any:  # Any: a future, or None
        if not self._keeps:
            return None
        talk = self._talk
        answer = chat.answer_text(raw, self._answer.is_stream)
        if talk.goes_on and not answer.strip():  # more calls of tools: nothing to add yet
            return None
        self._service.metrics.turns.labels("cut" if cut else "whole").inc()
        entry = turn(
            talk.scope,
            talk.turn_id,
            self._service.now(),
            chat.text_of(talk.asked[-1].get("content")),
            answer,
            fingerprint=chat.fingerprint(talk.asked),
            before=chat.turn_before(talk.messages),
            model=str(talk.body["model"])[:200],
            cut=cut,
            goes_on=talk.goes_on,
        )
        return self._service.journal.put(entry)


def _turn_id(scope: Scope, headers: Mapping[str, str]) -> str:
    """Return a new id; the same one for the same idempotency key of a user."""
    key = headers.get("idempotency-key")
    if not key:
        return f"turn-{secrets.token_hex(12)}"
    text = json.dumps([scope.tenant, scope.user, key])
    return f"turn-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _wants(headers: Mapping[str, str]) -> frozenset[str]:
    """Return what a client lets memory do: recall, remember, both by default."""
    mode = headers.get("x-persona-mode", "full").lower()
    modes = {
        "full": frozenset({"recall", "remember"}),
        "read": frozenset({"recall"}),
        "write": frozenset({"remember"}),
        "off": frozenset(),
    }
    if mode not in modes:
        raise bad(f"X-Persona-Mode is {mode!r}; it must be {', '.join(modes)}")
    return modes[mode]

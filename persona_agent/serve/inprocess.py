"""A model of ours as an upstream: what the `LLM` port can do, in OpenAI's shapes.

It answers in one piece; a stream has that piece and its end. What the port cannot honour, such as
tools or several choices, is refused, not dropped.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from persona_agent.ports import LLM, SaltedLLM
from persona_agent.serve.errors import ApiError, bad
from persona_agent.serve.messages import text_of
from persona_agent.serve.upstream import Answered, in_pool
from persona_agent.types import ROLES, Message, ModelReply, ModelRequest, Sampling

DEFAULT_TOKENS = 512
IGNORED = {  # what changes nothing in how the answer is drawn
    "model", "messages", "stream", "stream_options", "user", "metadata", "store", "n", "seed",
    "safety_identifier", "prompt_cache_key", "service_tier", "max_tokens", "max_completion_tokens",
    "temperature", "top_p", "stop", "response_format", "cache_salt", "parallel_tool_calls",
}  # fmt: skip


class ModelUpstream:
    """A model of this process as an upstream."""

    def __init__(self, llm: LLM, name: str, *, created: int = 0) -> None:
        self._llm = llm
        self._name = name
        self._created = created
        self._pool = ThreadPoolExecutor(16, "model")

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Answered:
        """Answer a chat request; raises ApiError for what the model cannot do."""
        if path != "/chat/completions":
            raise ApiError(
                404, f"the model {self._name!r} has no {path}", kind="not_found_error",
                code="not_found",
            )  # fmt: skip
        request = _request(body)
        (reply,) = await in_pool(self._pool, self._llm.complete, [request])
        if reply.error is not None:
            raise ApiError(
                502, f"the model could not answer: {reply.error}", kind="upstream_error",
                code="upstream_failed",
            )  # fmt: skip
        head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": str(body.get("model") or self._name),
        }
        stream = bool(body.get("stream"))
        text = _stream(head, reply, body) if stream else [_whole(head, reply)]
        kind = "text/event-stream" if stream else "application/json"
        return Answered(200, {"content-type": kind}, _chunks(text), _nothing)

    async def models(self) -> list[dict[str, Any]]:
        """Return the one model."""
        return [
            {
                "id": self._name,
                "object": "model",
                "created": self._created,
                "owned_by": "persona-agent",
            }
        ]

    async def takes_salt(self) -> bool:
        """Whether the model keeps prefix caches apart."""
        return isinstance(self._llm, SaltedLLM) and self._llm.honours_salt

    async def close(self) -> None:
        """Let what is under way end; the model itself belongs to who made it."""
        self._pool.shutdown(wait=False)


def _request(body: Mapping[str, Any]) -> ModelRequest:
    """Return a chat body as a request of ours; Any: JSON of a client. Raises ApiError."""
    unknown = sorted(key for key, value in body.items() if key not in IGNORED and value is not None)
    if unknown:
        raise bad(f"this model cannot honour {', '.join(unknown)}", param=unknown[0])
    if body.get("n") not in (None, 1):
        raise bad(f"n is {body['n']!r}; this model gives one choice", param="n")
    stop = body.get("stop") or ()
    try:
        return ModelRequest(
            tuple(_message(one) for one in body["messages"]),
            Sampling(
                int(body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_TOKENS),
                float(1.0 if body.get("temperature") is None else body["temperature"]),
                float(1.0 if body.get("top_p") is None else body["top_p"]),
                (stop,) if isinstance(stop, str) else tuple(map(str, stop)),
                body.get("seed"),
            ),
            schema=_schema(body.get("response_format")),
            cache_salt=body.get("cache_salt"),
            purpose="chat",
        )
    except (TypeError, ValueError, KeyError) as error:
        raise bad(f"the request cannot be read: {error}") from error


def _message(one: Mapping[str, Any]) -> Message:
    role = "system" if one.get("role") == "developer" else one.get("role")
    if role not in ROLES:
        raise bad(f"role is {role!r}; it must be one of {', '.join(ROLES)}", param="messages")
    if one.get("tool_calls"):
        raise bad("this model cannot honour tool_calls", param="messages")
    return Message(role, text_of(one.get("content")))


def _schema(wanted: Any) -> Mapping[str, Any] | None:
    if wanted is None or wanted == {"type": "text"}:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema" and isinstance(wanted.get("json_schema"), dict):
        schema = wanted["json_schema"].get("schema")
        if isinstance(schema, dict):
            return schema
    raise bad("response_format must be text, json_object or a json_schema", "response_format")


def _usage(reply: ModelReply) -> dict[str, Any]:
    used = reply.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }


def _said(reply: ModelReply) -> str:
    return reply.text if reply.parsed is None or reply.text else json.dumps(reply.parsed)


def _whole(head: Mapping[str, Any], reply: ModelReply) -> str:
    message = {"role": "assistant", "content": _said(reply), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(reply)}
    return json.dumps(whole, ensure_ascii=False)


def _stream(head: Mapping[str, Any], reply: ModelReply, body: Mapping[str, Any]) -> list[str]:
    def event(delta: Mapping[str, Any], finish: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    events = [event({"role": "assistant", "content": _said(reply)}, None), event({}, reply.finish)]
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(reply)}
        events.append(_event(last))
    return [*events, "data: [DONE]\n\n"]


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _chunks(texts: Sequence[str]) -> AsyncIterator[bytes]:
    for text in texts:
        yield text.encode()


def _nothing() -> None:
    """There is no connection to give back."""

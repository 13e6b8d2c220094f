"""The two ways to ask an OpenAI-compatible endpoint: what a user says in them, and what is answered.

All that is known of the two forms of requests and replies is here; the rest is the same for both.
What has another form than expected says nothing, because a request that we do not understand must
reach the model as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from persona_agent.types import Json

Body: TypeAlias = Mapping[str, Json]

TOLD = ("system", "developer")  # the roles of a chat's instructions
CALLS = ("function_call", "custom_tool_call")  # of the caller's own tools: there is more to come


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to ask: the end of its path, and how its bodies are read and written.

    `said` gives the texts of the user's turns, `instructed` the body with more instructions after
    its own, `answered` the text of a whole reply and `streamed` that of the events of a stream;
    None where there is no text for the user, such as a call of a tool.
    """

    path: str
    said: Callable[[Body], list[str]]
    instructed: Callable[[Body, str], dict[str, Json]]
    answered: Callable[[Json], str | None]
    streamed: Callable[[Sequence[Json]], str | None]


def dialect_of(path: str) -> Dialect | None:
    """Return how an endpoint's path is spoken to; None if it is not a conversation.

    >>> dialect_of("/v1/chat/completions").path, dialect_of("/v1/embeddings")
    ('/chat/completions', None)
    """
    return next((one for one in DIALECTS if path.rstrip("/").endswith(one.path)), None)


def _text(content: Json) -> str:
    """Return the text of a message's content, which is a text or a list of parts.

    >>> _text([{"type": "text", "text": "Is this"}, {"type": "image_url"}, {"text": "tea?"}])
    'Is this\\ntea?'
    """
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [one.get("text") for one in parts if isinstance(one, dict)]
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _turns(messages: Json) -> list[str]:
    listed = messages if isinstance(messages, list) else []
    found = [
        _text(one.get("content"))
        for one in listed
        if isinstance(one, dict) and one.get("role") == "user"
    ]
    return [text for text in found if text.strip()]


def _chat_said(body: Body) -> list[str]:
    return _turns(body.get("messages"))


def _chat_instructed(body: Body, more: str) -> dict[str, Json]:
    # Into the message that is there: many chat templates refuse a second system message.
    given = body.get("messages")
    messages = list(given) if isinstance(given, list) else []
    first = messages[0] if messages else None
    if not isinstance(first, dict) or first.get("role") not in TOLD:
        return {**body, "messages": [{"role": "system", "content": more}, *messages]}
    own = first.get("content")
    longer: Json = [*own, {"type": "text", "text": more}] if isinstance(own, list) else None
    if longer is None:
        longer = "\n\n".join(part for part in (own, more) if isinstance(part, str) and part)
    return {**body, "messages": [{**first, "content": longer}, *messages[1:]]}


def _chat_answered(reply: Json) -> str | None:
    choice = _first_choice(reply)
    message = choice.get("message")
    if not isinstance(message, dict) or message.get("tool_calls"):
        return None
    return _text(message.get("content")) or None


def _chat_streamed(events: Sequence[Json]) -> str | None:
    text = ""
    for event in events:
        delta = _first_choice(event).get("delta")
        if not isinstance(delta, dict):
            continue
        if delta.get("tool_calls"):
            return None
        text += _text(delta.get("content"))
    return text or None


def _first_choice(value: Json) -> Mapping[str, Json]:
    """Return the choice of index 0, or an empty one."""
    choices = value.get("choices") if isinstance(value, dict) else None
    for one in choices if isinstance(choices, list) else []:
        if isinstance(one, dict) and one.get("index", 0) == 0:
            return one
    return {}


def _responses_said(body: Body) -> list[str]:
    given = body.get("input")
    if isinstance(given, str):
        return [given] if given.strip() else []
    return _turns(given)


def _responses_instructed(body: Body, more: str) -> dict[str, Json]:
    own = body.get("instructions")
    return {**body, "instructions": f"{own}\n\n{more}" if own else more}


def _responses_answered(reply: Json) -> str | None:
    output = reply.get("output") if isinstance(reply, dict) else None
    items = [one for one in (output if isinstance(output, list) else []) if isinstance(one, dict)]
    if any(one.get("type") in CALLS for one in items):
        return None
    said = [_text(one.get("content")) for one in items if one.get("type") == "message"]
    return "\n".join(text for text in said if text) or None


def _responses_streamed(events: Sequence[Json]) -> str | None:
    known = [one for one in events if isinstance(one, dict)]
    for event in reversed(known):
        if event.get("type") in ("response.completed", "response.incomplete"):
            return _responses_answered(event.get("response"))
    deltas = [one.get("delta") for one in known if one.get("type") == "response.output_text.delta"]
    return "".join(delta for delta in deltas if isinstance(delta, str)) or None


CHAT = Dialect("/chat/completions", _chat_said, _chat_instructed, _chat_answered, _chat_streamed)
RESPONSES = Dialect(
    "/responses",
    _responses_said,
    _responses_instructed,
    _responses_answered,
    _responses_streamed,
)
DIALECTS = (CHAT, RESPONSES)

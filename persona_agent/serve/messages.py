"""Chat messages as clients send them: what the user said, where our text goes, what came back.

Pure functions over JSON of others: unknown keys stay, what is not looked at is not changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from persona_agent.serve.errors import bad

TOOLS = ("tool", "function")  # whose messages are results; the latter is the older name

Body: TypeAlias = Mapping[str, Any]  # Any: a client's JSON


def checked(body: Any) -> dict[str, Any]:
    """Return a chat body whose messages can be looked at; raises ApiError 400."""
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad("messages must be a list of one message or more", param="messages")
    for number, one in enumerate(messages):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise bad(f"message {number} must be an object with a role", f"messages[{number}]")
        content = one.get("content")
        if not (content is None or isinstance(content, (str, list))):
            raise bad(f"the content of message {number} must be text or parts", "messages")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise bad("model must be the name of a model", param="model")
    return body


def text_of(content: Any) -> str:
    """Return the text of a message's content: of its text parts, a line each.

    >>> text_of([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}])
    'see'
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def asked(messages: Sequence[Body]) -> Sequence[Body]:
    """Return the talk up to what the user said last, that included; empty if that is not answered.

    It is answered next if it is the last message, or if the last one is a tool's result: there the
    model goes on by itself.
    """
    if messages[-1]["role"] not in ("user", *TOOLS):
        return ()
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "user":
            return messages[: place + 1]
    return ()


def question(messages: Sequence[Body]) -> str:
    """Return the latest of the user's words, to recall by."""
    for one in reversed(messages):
        if one["role"] == "user" and (text := text_of(one.get("content")).strip()):
            return text
    return ""


def said_before(messages: Sequence[Body]) -> frozenset[str]:
    """Return the user's words that the prompt shows already."""
    return frozenset(text_of(one.get("content")) for one in messages if one["role"] == "user")


def with_instructions(messages: Sequence[Body], text: str) -> list[Body]:
    """Return the messages with `text` after the client's own system message, or as the first.

    The client's message stays first and as it was, so that users of one product share a prefix.
    """
    if not text:
        return list(messages)
    first = messages[0]
    if first["role"] not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    content = first.get("content")
    if isinstance(content, list):
        joined: Any = [*content, {"type": "text", "text": text}]
    else:
        joined = f"{content}\n\n{text}" if content else text
    return [{**first, "content": joined}, *messages[1:]]


def fingerprint(messages: Sequence[Body]) -> str:
    """Return 24 digits of what user and assistant said so far: the same question asked again."""
    talk = [
        (one["role"], text_of(one.get("content")))
        for one in messages
        if one["role"] in ("user", "assistant")
    ]
    return hashlib.sha256(json.dumps(talk).encode()).hexdigest()[:24]


def turn_before(messages: Sequence[Body]) -> tuple[str, str] | None:
    """Return fingerprint and answer of the turn that the last user message follows.

    An answer in several parts, with calls of tools between them, is their lines. None if the last
    message is not the user's, or nothing was answered before it.
    """
    if messages[-1]["role"] != "user":
        return None
    parts: list[str] = []
    for place in range(len(messages) - 2, -1, -1):
        one = messages[place]
        if one["role"] == "user":
            answer = "\n".join(reversed(parts))
            return (fingerprint(messages[: place + 1]), answer) if parts else None
        if one["role"] == "assistant" and (text := text_of(one.get("content"))):
            parts.append(text)
    return None


def answer_text(raw: bytes, is_stream: bool) -> str:
    """Return what the assistant said in an upstream's answer; empty if it said nothing.

    Of several choices the first counts. What is not of OpenAI's form says nothing.
    """
    if is_stream:
        return "".join(_deltas(raw))
    try:
        choice = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return text_of(choice)


def _deltas(raw: bytes) -> Iterator[str]:
    for line in raw.split(b"\n"):
        data = line.strip().removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or data == b"[DONE]":
            continue
        try:
            choices = json.loads(data)["choices"]
            text = choices[0]["delta"].get("content") if choices else None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            continue
        if choices and choices[0].get("index", 0) == 0 and isinstance(text, str):
            yield text

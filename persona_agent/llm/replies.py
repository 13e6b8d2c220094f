"""How a model's raw answer becomes a `ModelReply`: shared by every backend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from persona_agent.types import Json, ModelReply, Usage

ASKED_ONCE = Usage(requests=1)


def failed(error: Exception, usage: Usage = ASKED_ONCE) -> ModelReply:
    """Return the reply that says why there is no answer: the error's type and words.

    >>> failed(TimeoutError("2 s")).error
    'TimeoutError: 2 s'
    """
    return ModelReply(finish="error", usage=usage, error=f"{type(error).__name__}: {error}")


def chosen(choices: Sequence[str], logprobs: Sequence[float], usage: Usage) -> ModelReply:
    """Return the reply of the likeliest choice; of equals, the first."""
    best = max(range(len(choices)), key=lambda i: (logprobs[i], -i))
    return ModelReply(choices[best], logprobs=tuple(logprobs), usage=usage)


def json_reply(text: str, finish: Literal["stop", "length"], usage: Usage) -> ModelReply:
    """Return the reply to a request with a schema: `parsed`, or an error that says why not.

    The text is kept in either case, so that a caller can salvage what is there.
    """
    error = None
    parsed: Json = None
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as problem:
        error = f"ReplyFormatError: the answer is not JSON ({problem}): {shortened(text)}"
        if finish == "length":
            error = (
                f"ReplyFormatError: the JSON was cut off after {usage.completion_tokens} tokens; "
                "raise max_tokens, or ask for less"
            )
    return ModelReply(text, parsed, finish=finish, usage=usage, error=error)


def shortened(text: str, limit: int = 200) -> str:
    """Return `text` in quotes for an error message, its middle left out when it is long."""
    if len(text) <= limit:
        return repr(text)
    return f"{text[: limit // 2]!r} ... {text[-limit // 2 :]!r} ({len(text)} characters)"

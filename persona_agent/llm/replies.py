"""How a reply is made of what an engine says: shared by every backend."""

from __future__ import annotations

from collections.abc import Sequence

from persona_agent.types import ModelReply, Usage

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

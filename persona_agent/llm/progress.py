"""A model that tells how far it is: a wrapper for long batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from persona_agent.ports import LLM
from persona_agent.types import ModelReply, ModelRequest

Tell = Callable[[int, int], None]


class ProgressLLM:
    """A model whose batches are worked on in parts, so that progress can be told.

    `tell` is called with the requests done and due: of the current batch, after each part of
    `part` requests. Neighbours stay neighbours, so prefixes are shared as before.
    """

    def __init__(self, inner: LLM, tell: Tell, *, part: int = 32) -> None:
        if part < 1:
            raise ValueError(f"part is {part}; it must be at least 1")
        self._inner = inner
        self._tell = tell
        self._part = part

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the inner model's replies, in order."""
        replies: list[ModelReply] = []
        self._tell(0, len(requests))
        for start in range(0, len(requests), self._part):
            replies += self._inner.complete(requests[start : start + self._part])
            self._tell(len(replies), len(requests))
        return replies

"""Server-sent events, read from the bytes of a stream as they pass."""

from __future__ import annotations

import json

from persona_agent.types import Json


class Events:
    """Collects the JSON values of a stream's events from its bytes, however these are cut.

    >>> events = Events()
    >>> for chunk in (b'data: {"a"', b': 1}\\r\\n\\r\\nda', b'ta: [DONE]\\n\\n'):
    ...     events.feed(chunk)
    >>> events.values, events.is_whole
    ([{'a': 1}], True)

    `is_whole` says whether the stream said that it ends.
    """

    def __init__(self) -> None:
        self.values: list[Json] = []
        self.is_whole = False
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line.removeprefix(b"data:").strip())

    def _take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.is_whole = True
            return
        try:
            value = json.loads(data)
        except ValueError:
            return  # not of this protocol: the caller's SDK judges it
        self.values.append(value)
        # Responses end by an event of their own.
        if isinstance(value, dict) and value.get("type") == "response.completed":
            self.is_whole = True

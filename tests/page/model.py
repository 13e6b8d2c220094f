"""The model behind the page's server: it knows films, by rules, and says what it says slowly."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from persona_agent.serve.errors import ApiError
from persona_agent.serve.upstream import Answered
from persona_agent.types import ModelRequest
from tests.page.films import STARS

NOTES = {  # what people say of themselves, and what is to be learned from it
    "I live in Lisbon, two minutes from the Cinemateca.": "Lives in Lisbon near a cinematheque.",
    "I watch films on Sunday evenings, never on weekdays.": "Watches films on Sunday evenings.",
    "Subtitles are fine, dubbing is not.": "Prefers subtitles to dubbing.",
}
ANSWER = "You gave noir its stars: try Night and the City tonight, with subtitles."
PATIENCE_S = 120
BROKEN = "break off"  # what makes the model fail when a user says it


class Learning:
    """Answers what learning asks; an alignment's critiques wait while it is `held`."""

    def __init__(self) -> None:
        self._goes_on = threading.Event()
        self._goes_on.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold alignments, in the middle of a round, until the block ends."""
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    def answer(self, request: ModelRequest) -> str | list[float]:
        """Answer: likely stars, facts, critiques and rewrites."""
        if request.choices:
            return _stars(request)
        if request.purpose == "facts":
            return json.dumps({"facts": _facts(request.messages[-1].content)})
        if request.schema is not None:
            return json.dumps({"lines": ["Is hard to please."]})
        assert self._goes_on.wait(PATIENCE_S), "nobody let the alignment go on"
        return "The stars follow the genre."


def _stars(request: ModelRequest) -> list[float]:
    """Know the stars of a genre that the persona tells of, and nothing of any other."""
    known = request.messages[0].content.lower()
    genres = re.findall(rf"({'|'.join(STARS)}) film", request.messages[-1].content)
    if not genres or f"rates {genres[-1]}" not in known:
        return [-1.6] * len(request.choices)
    return [-2.0 * abs(STARS[genres[-1]] - int(choice)) for choice in request.choices]


def _facts(prompt: str) -> list[dict[str, Any]]:
    events = prompt.partition("<events>")[2].splitlines()
    found = []
    for said, fact in NOTES.items():
        numbers = [int(line.split(".")[0]) for line in events if said in line]
        if numbers:
            found.append(
                {
                    "text": fact,
                    "kind": "habit",
                    "events": numbers,
                    "confidence": 0.9,
                    "untrue": [],
                }
            )
    return found


class Talking:
    """An upstream that says its answer word by word, and fails when it is told to."""

    is_away = False

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Answered:
        """Answer a chat."""
        said = str(body["messages"][-1].get("content"))
        if BROKEN in said:
            raise _failed()
        stream = bool(body.get("stream"))
        return Answered(
            200,
            {"content-type": "text/event-stream" if stream else "application/json"},
            self._events() if stream else self._whole(),
            _nothing,
        )

    async def _whole(self) -> AsyncIterator[bytes]:
        message = {"role": "assistant", "content": ANSWER}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        yield json.dumps({**_HEAD, "object": "chat.completion", "choices": [choice]}).encode()

    async def _events(self) -> AsyncIterator[bytes]:
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in re.findall(r"\S+\s*", ANSWER)]
        for delta in deltas:
            await asyncio.sleep(self.pause_s)
            yield _event([{"index": 0, "delta": delta, "finish_reason": None}])
        yield _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        yield b"data: [DONE]\n\n"

    async def models(self) -> list[dict[str, Any]]:
        """Return the one model; raises ApiError while it is away."""
        if self.is_away:
            raise _failed()
        return [{"id": "films", "object": "model", "created": 0, "owned_by": "tests"}]

    async def takes_salt(self) -> bool:
        """Whether caches are kept apart: there are none."""
        return False

    async def close(self) -> None:
        """Close nothing."""


_HEAD = {"id": "chatcmpl-films", "created": 0, "model": "films"}


def _event(choices: list[dict[str, Any]]) -> bytes:
    told = {**_HEAD, "object": "chat.completion.chunk", "choices": choices}
    return f"data: {json.dumps(told)}\n\n".encode()


def _failed() -> ApiError:
    said = "the model behind this server failed"
    return ApiError(502, said, kind="upstream_error", code="upstream_failed")


def _nothing() -> None:
    """There is no connection to give back."""

"""What a study has asked already: model replies and vectors, in one SQLite file.

A study that was killed goes on where it was, and one that is run again asks nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from persona_agent.closing import Closing
from persona_agent.errors import BudgetExceeded, StoreError
from persona_agent.llm.replay import fingerprint, reply_of
from persona_agent.ports import LLM, Embedder
from persona_agent.types import FloatArray, ModelReply, ModelRequest, Record

PART = 64  # requests that are asked, and then kept, together
WRITING = 8  # a token written takes about as long as so many read
SCHEMA = """
create table if not exists replies (
    key text primary key, reply text not null, seconds real not null) without rowid;
create table if not exists vectors (
    key text primary key, vector blob not null) without rowid;
"""
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Budget(Record):
    """How much a model may be asked in one run; None: without limit. What is cached is free."""

    requests: int | None = None
    tokens: int | None = None

    def less(self, requests: int, tokens: int) -> Budget:
        """Return what is left after so many."""
        return Budget(
            None if self.requests is None else max(0, self.requests - requests),
            None if self.tokens is None else max(0, self.tokens - tokens),
        )


class Cache(Closing):
    """The file of replies and vectors. One process writes it at a time; use it from one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, created if absent; raises StoreError if it is not such a file."""
        try:
            self._base = sqlite3.connect(path, isolation_level=None)
            self._base.execute("pragma journal_mode = wal")
            self._base.execute("pragma synchronous = normal")
            self._base.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(f"the cache {str(path)!r} cannot be used: {error}") from error

    def replies(self, keys: Iterable[str]) -> dict[str, ModelReply]:
        """Return the replies that are there, by key."""
        found = {}
        for key in keys:
            row = self._base.execute("select reply from replies where key = ?", [key]).fetchone()
            if row is not None:
                found[key] = reply_of(json.loads(row[0]))
        return found

    def seconds(self, keys: Iterable[str]) -> float:
        """Return how long the model took for these replies when it was asked."""
        total = 0.0
        for key in keys:
            row = self._base.execute("select seconds from replies where key = ?", [key]).fetchone()
            total += row[0] if row else 0.0
        return total

    def keep(self, replies: Iterable[tuple[str, ModelReply, float]]) -> None:
        """Keep replies and the seconds of each, in one transaction."""
        rows = [(key, json.dumps(one.to_json()), seconds) for key, one, seconds in replies]
        with self._base:
            self._base.execute("begin")
            self._base.executemany("insert or replace into replies values (?, ?, ?)", rows)

    def vectors(self, keys: Sequence[str]) -> dict[str, FloatArray]:
        """Return the vectors that are there, by key."""
        found = {}
        for key in keys:
            row = self._base.execute("select vector from vectors where key = ?", [key]).fetchone()
            if row is not None:
                found[key] = np.frombuffer(row[0], np.float32)
        return found

    def keep_vectors(self, vectors: Iterable[tuple[str, FloatArray]]) -> None:
        """Keep vectors, in one transaction."""
        rows = [(key, one.astype(np.float32).tobytes()) for key, one in vectors]
        with self._base:
            self._base.execute("begin")
            self._base.executemany("insert or replace into vectors values (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._base.close()


class CachedLLM:
    """A model that is asked each thing once. Implements the `LLM` port.

    Requests that several programs make are asked once, what was answered before not at all; an
    error is not kept. The rest is asked in parts, ordered by their text, so that neighbours share
    prefixes, and each part is kept before the next is asked. `name` tells models apart.
    """

    def __init__(
        self,
        inner: LLM,
        cache: Cache,
        name: str,
        *,
        budget: Budget | None = None,
        tell: Tell = lambda done, due: None,
        part: int = PART,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._inner = inner
        self._cache = cache
        self._name = name
        self._budget = budget or Budget()
        self._tell = tell
        self._part = part
        self._clock = clock
        self.asked = 0
        self.tokens = 0

    def key(self, request: ModelRequest) -> str:
        """Return what a reply is kept under: the model's name and the request's content."""
        return hashlib.sha256(f"{self._name}\n{fingerprint(request)}".encode()).hexdigest()[:40]

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order; raises BudgetExceeded where more may not be asked."""
        keys = [self.key(one) for one in requests]
        known = self._cache.replies(dict.fromkeys(keys))
        missing = {key: one for key, one in zip(keys, requests, strict=True) if key not in known}
        order = sorted(missing, key=lambda key: _text(missing[key]))
        if order:
            self._tell(0, len(order))
        begin = 0
        while begin < len(order):
            part = order[begin : begin + self._affordable(len(order) - begin)]
            begun = self._clock()
            replies = self._inner.complete([missing[key] for key in part])
            seconds = _shares(replies, self._clock() - begun)
            self.asked += len(part)
            self.tokens += sum(one.usage.prompt_tokens for one in replies)
            self.tokens += sum(one.usage.completion_tokens for one in replies)
            rows = list(zip(part, replies, seconds, strict=True))
            self._cache.keep(row for row in rows if row[1].error is None)
            known |= dict(zip(part, replies, strict=True))
            begin += len(part)
            self._tell(begin, len(order))
        return [known[key] for key in keys]

    def _affordable(self, due: int) -> int:
        """Return how many requests may be asked next; raises BudgetExceeded for none."""
        requests, tokens = self._budget.requests, self._budget.tokens
        room = due if requests is None else requests - self.asked
        if room < 1:
            raise BudgetExceeded(
                f"{self.asked} model requests are made, which is the budget, and {due} more are "
                "due. What was answered is kept: run again to go on"
            )
        if tokens is not None and self.tokens >= tokens:
            raise BudgetExceeded(
                f"{self.tokens} tokens are used up, the budget is {tokens}, and {due} requests are "
                "due. What was answered is kept: run again to go on"
            )
        return min(self._part, room)


class CachedEmbedder:
    """An embedder that embeds each text once. Implements the `Embedder` port."""

    def __init__(self, inner: Embedder, cache: Cache) -> None:
        self._inner = inner
        self._cache = cache

    @property
    def name(self) -> str:
        """The inner embedder's name: the vectors are the same."""
        return self._inner.name

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._inner.dim

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return an array of shape (len(texts), dim), rows of norm 1."""
        keys = [hashlib.sha256(f"{self.name}\n{one}".encode()).hexdigest()[:40] for one in texts]
        known = self._cache.vectors(list(dict.fromkeys(keys)))
        missing = {key: one for key, one in zip(keys, texts, strict=True) if key not in known}
        if missing:
            made = dict(zip(missing, self._inner.embed(list(missing.values())), strict=True))
            self._cache.keep_vectors(made.items())
            known |= made
        if not keys:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([known[key] for key in keys])


def _text(request: ModelRequest) -> tuple[bool, str]:
    """Return what requests are ordered by: choices together, then all of the prompt."""
    return not request.choices, "\n".join(one.content for one in request.messages)


def _shares(replies: Sequence[ModelReply], seconds: float) -> list[float]:
    """Return the seconds of each reply: shared by the tokens read anew and written."""
    work = [
        1
        + one.usage.prompt_tokens
        - one.usage.cached_tokens
        + WRITING * one.usage.completion_tokens
        for one in replies
    ]
    return [seconds * own / sum(work) for own in work]

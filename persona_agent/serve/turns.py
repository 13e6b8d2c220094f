"""Turns: what was said becomes a memory, what the user did next becomes its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from persona_agent.errors import UnknownInteraction
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.lineage import forgotten_at
from persona_agent.memory.rows import microseconds, owner_of
from persona_agent.serve.journal import Entry
from persona_agent.types import FloatArray, Interaction, Json, Scope

ACCEPTED = "accepted"
REJECTED = "rejected"
LOOK_BACK = 12  # how many of a user's latest events a turn's predecessor is looked for in
ASKED_AGAIN = timedelta(minutes=10)
log = logging.getLogger("persona_agent.serve")


def turn(
    scope: Scope,
    turn_id: str,
    when: datetime,
    query: str,
    answer: str,
    *,
    fingerprint: str,
    before: tuple[str, str] | None,
    model: str,
    cut: bool,
) -> Entry:
    """Return the journal's entry of a turn.

    `fingerprint` is that of the talk up to the question, `before` the fingerprint and answer of
    the turn that it follows; `cut` says that the client left before the answer's end.
    """
    metadata: dict[str, Json] = {"channel": "chat", "turn": fingerprint, "model": model}
    if cut:
        metadata["cut"] = True
    return {
        "tenant": scope.tenant,
        "user": scope.user,
        "agent": scope.agent,
        "run": scope.run,
        "id": turn_id,
        "when": when.isoformat(),
        "query": storable(query),
        "response": storable(answer) or None,
        "metadata": metadata,
        "before": None if before is None else list(before),
    }


def storable(text: str) -> str:
    """Return text without what no database holds: NUL goes, lone surrogates become "?"."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


class Turns:
    """Puts turns into the memory, and outcomes to those before them."""

    def __init__(
        self, memory: EpisodicMemory, *, clock: Callable[[], datetime], implicit: bool
    ) -> None:
        self._memory = memory
        self._now = clock
        self._implicit = implicit

    def apply(self, entries: Sequence[Entry]) -> list[Entry]:
        """Store turns and return those that can never be stored; raises StoreError.

        A turn of a user who was forgotten since is dropped.
        """
        read: list[tuple[Entry, Interaction]] = []
        refused: list[Entry] = []
        for entry in entries:
            try:
                read.append((entry, _interaction(entry)))
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a turn cannot be stored", extra={"reason": type(error).__name__})
                refused.append(entry)
        alive = self._alive(read)
        if self._implicit:
            self._outcomes(alive)
        refused += self._add(alive)
        with self._memory.store.database.read() as connection:
            late = [one for _, one in alive if _is_forgotten(connection, one)]
        for one in late:  # forgotten while it was being stored
            try:
                self._memory.delete(one.scope, one.id, self._now())
            except UnknownInteraction:
                continue
        return refused

    def feedback(
        self, scope: Scope, event_id: str, outcome: str, metadata: Mapping[str, Json]
    ) -> Interaction:
        """Give an event the outcome that the user said it had; raises UnknownInteraction."""
        known = self._memory.store.get(scope, event_id)
        kept = {key: value for key, value in known.metadata.items() if key != "implicit"}
        return self._set(known, outcome, {**kept, **metadata})

    def _alive(self, read: Sequence[tuple[Entry, Interaction]]) -> list[tuple[Entry, Interaction]]:
        with self._memory.store.database.read() as connection:
            return [pair for pair in read if not _is_forgotten(connection, pair[1])]

    def _add(self, read: Sequence[tuple[Entry, Interaction]]) -> list[Entry]:
        if not read:
            return []
        try:
            self._keep([one for _, one in read])
        except (ValueError, TypeError):
            if len(read) == 1:
                log.warning("a turn was refused by the store")
                return [read[0][0]]
            return [entry for pair in read for entry in self._add([pair])]
        return []

    def _keep(self, some: Sequence[Interaction]) -> None:
        vectors = self._vectors([one.text for one in some])
        if vectors is None:
            self._memory.store.add(some, now=self._now())
        else:
            self._memory.add(some, self._now(), vectors=vectors)

    def _vectors(self, texts: Sequence[str]) -> FloatArray | None:
        """Return the texts' vectors; None if the embedder fails: each gets one when recalled."""
        try:
            return self._memory.embedder.embed(texts)
        except Exception:  # whatever breaks in a model, the words are kept
            log.exception("the embedder failed; turns are stored without vectors")
            return None

    def _outcomes(self, read: Sequence[tuple[Entry, Interaction]]) -> None:
        """Note that a turn's predecessor was gone on from, or that the same was asked again."""
        for entry, one in read:
            mark = one.metadata.get("turn")
            before: Any = entry.get("before")
            for known in self._memory.store.recent(one.scope.owner, LOOK_BACK):
                if known.outcome is not None or known.id == one.id:
                    continue
                told = known.metadata.get("turn")
                again = told == mark and abs(one.when - known.when) < ASKED_AGAIN
                if told is None or not (
                    again or (before and [told, known.response] == list(before))
                ):
                    continue
                implied = "asked again" if again else "went on"
                kept = {**known.metadata, "implicit": implied}
                self._set(known, REJECTED if again else ACCEPTED, kept)

    def _set(self, known: Interaction, outcome: str, metadata: Mapping[str, Json]) -> Interaction:
        """Set an outcome; the vector is made now, so that no later question waits for it."""
        text = "\n".join(part for part in (known.query, known.response, outcome) if part)
        store = self._memory.store
        values: dict[str, Any] = {"outcome": outcome, "metadata": metadata, "now": self._now()}
        vectors = self._vectors([text])
        if vectors is not None:
            values |= {"vector": vectors[0], "embedder": self._memory.label()}
        return store.update(known.scope, known.id, **values)


def _interaction(entry: Mapping[str, Any]) -> Interaction:  # Any: our own JSON, checked inside
    scope = Scope(entry["user"], entry["tenant"], entry["agent"], entry["run"])
    return Interaction(
        scope,
        datetime.fromisoformat(entry["when"]),
        entry["query"],
        response=entry["response"],
        metadata=entry["metadata"],
        id=entry["id"],
    )


def _is_forgotten(connection: Connection, one: Interaction) -> bool:
    at = forgotten_at(connection, owner_of(one.scope))
    return at is not None and microseconds(one.when) <= at

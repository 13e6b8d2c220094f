"""Turns: what was said becomes a memory, what the user did next becomes its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from persona_agent.errors import StoreError, UnknownInteraction
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.lineage import forgotten_of
from persona_agent.memory.rows import microseconds, owner_of
from persona_agent.serve.segments import Entry
from persona_agent.types import FloatArray, Interaction, Json, Scope

Turn: TypeAlias = tuple[Entry, Interaction]

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
    goes_on: bool = False,
) -> Entry:
    """Return the journal's entry of a turn.

    `fingerprint` is that of the talk up to the question, `before` the fingerprint and answer of
    the turn that it follows; `cut` says that the client left before the answer's end, `goes_on`
    that the turn began before: this is what was answered after a tool's result.
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
        "goes_on": goes_on,
    }


def is_of(scope: Scope, entry: Entry) -> bool:
    """Tell whether an entry is of a user, whichever agent and run."""
    return (entry.get("tenant"), entry.get("user")) == (scope.tenant, scope.user)


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

        A turn of a user who was forgotten since is dropped. Doing it again changes nothing.
        """
        read: list[Turn] = []
        refused: list[Entry] = []
        for entry in entries:
            try:
                read.append((entry, _interaction(entry)))
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a turn cannot be stored", extra={"reason": type(error).__name__})
                refused.append(entry)
        forgotten = self._forgotten(read)
        alive = [one for one in read if one not in forgotten]
        begun = [one for one in alive if not one[0].get("goes_on")]
        wrong = self._add(begun)
        wrong += self._add(self._go_on([one for one in alive if one[0].get("goes_on")]))
        if self._implicit:
            self._outcomes([one for one in begun if one not in wrong])
        for _, late in self._forgotten(alive):  # forgotten while it was being stored
            try:
                self._memory.delete(late.scope, late.id, self._now())
            except UnknownInteraction:
                continue
        self._keep_up([one.scope for _, one in alive])
        return refused + [entry for entry, _ in wrong]

    def feedback(
        self, scope: Scope, event_id: str, outcome: str, metadata: Mapping[str, Json]
    ) -> Interaction:
        """Give an event the outcome that the user said it had; raises UnknownInteraction."""
        known = self._memory.store.get(scope, event_id)
        kept = {key: value for key, value in known.metadata.items() if key != "implicit"}
        changed = replace(known, outcome=outcome, metadata={**kept, **metadata})
        vectors = self._vectors([changed.text])
        return self._write(changed, None if vectors is None else vectors[0])

    def _forgotten(self, read: Sequence[Turn]) -> list[Turn]:
        """Return the turns of users who were forgotten after them."""
        owners = list({owner_of(one.scope) for _, one in read})
        with self._memory.store.database.read() as connection:
            at = forgotten_of(connection, owners)
        return [
            pair
            for pair in read
            if microseconds(pair[1].when) <= at.get(owner_of(pair[1].scope), -1)
        ]

    def _add(self, read: Sequence[Turn]) -> list[Turn]:
        """Store turns; return those that the store refuses."""
        if not read:
            return []
        try:
            self._keep([one for _, one in read])
        except (ValueError, TypeError):
            if len(read) == 1:
                log.warning("a turn was refused by the store")
                return [read[0]]
            return [wrong for pair in read for wrong in self._add([pair])]
        return []

    def _keep(self, some: Sequence[Interaction]) -> None:
        vectors = self._vectors([one.text for one in some])
        if vectors is None:
            self._memory.store.add(some, now=self._now())
        else:
            self._memory.add(some, self._now(), vectors=vectors)

    def _keep_up(self, scopes: Sequence[Scope]) -> None:
        """Spare the next questions of these users the wait for what was just stored."""
        try:
            self._memory.keep_up(scopes)
        except StoreError as error:  # the turns are stored; who asks next is told
            log.warning("the index cannot follow", extra={"reason": str(error)})

    def _vectors(self, texts: Sequence[str]) -> FloatArray | None:
        """Return the texts' vectors; None if the embedder fails: each gets one when recalled."""
        if not texts:
            return None
        try:
            return self._memory.embedder.embed(texts)
        except Exception:  # whatever breaks in a model, the words are kept
            log.exception("the embedder failed; turns are stored without vectors")
            return None

    def _go_on(self, read: Sequence[Turn]) -> list[Turn]:
        """Add answers to the turns that they belong to; return those whose turn is not there."""
        alone: list[Turn] = []
        for pair in read:
            one = pair[1]
            latest = self._latest([one])[0]
            known = next((k for k in latest[::-1] if _mark(k) == _mark(one)), None)
            if known is None:
                alone.append(pair)
            elif f"\n{one.response}\n" not in f"\n{known.response}\n":  # as it is the second time
                both = [part for part in (known.response, one.response) if part]
                self._change([replace(known, response="\n".join(both))])
        return alone

    def _outcomes(self, read: Sequence[Turn]) -> None:
        """Note that a turn's predecessor was gone on from, or that the same was asked again."""
        found: dict[tuple[Scope, str], Interaction] = {}
        latest = self._latest([one for _, one in read])
        for (entry, one), some in zip(read, latest, strict=True):
            before: Any = entry.get("before")
            for known in some:
                place = known.scope.owner, known.id
                if known.outcome is not None or place in found or _mark(known) is None:
                    continue
                again = _mark(known) == _mark(one) and one.when - known.when < ASKED_AGAIN
                if not again and (before is None or [_mark(known), known.response] != [*before]):
                    continue
                implied = {**known.metadata, "implicit": "asked again" if again else "went on"}
                outcome = REJECTED if again else ACCEPTED
                found[place] = replace(known, outcome=outcome, metadata=implied)
        self._change(list(found.values()))

    def _latest(self, some: Sequence[Interaction]) -> list[list[Interaction]]:
        """Return, for each, its user's latest events that are not later than it, oldest first."""
        with self._memory.store.snapshot() as snapshot:
            latest = [snapshot.latest(owner_of(one.scope), LOOK_BACK) for one in some]
        return [
            [known for known in events if known.id != one.id and known.when <= one.when]
            for one, events in zip(some, latest, strict=True)
        ]

    def _change(self, some: Sequence[Interaction]) -> None:
        """Write what became of turns, as far as they are there and the store takes it."""
        vectors = self._vectors([one.text for one in some])
        for place, one in enumerate(some):
            try:
                self._write(one, None if vectors is None else vectors[place])
            except UnknownInteraction:
                continue  # deleted meanwhile
            except ValueError as error:
                log.warning("a turn could not be changed", extra={"reason": str(error)})

    def _write(self, one: Interaction, vector: FloatArray | None) -> Interaction:
        """Write a turn that has changed, with its vector, so that no later question waits for it."""
        values: dict[str, Any] = {"response": one.response, "outcome": one.outcome}
        if vector is not None:
            values |= {"vector": vector, "embedder": self._memory.label()}
        return self._memory.store.update(
            one.scope, one.id, metadata=one.metadata, now=self._now(), **values
        )


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


def _mark(one: Interaction) -> Json:
    """Return the fingerprint of the talk that led to a turn; None for other events."""
    return one.metadata.get("turn")

"""Versions of personas in the store: the head, the history, and what users do to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Literal

from pydantic import TypeAdapter

from persona_agent.memory.rows import StoredPersona
from persona_agent.memory.store import Store
from persona_agent.persona import Diff, Persona, PersonaLine, diff
from persona_agent.types import Json, Scope, as_json


@cache
def _adapter() -> TypeAdapter[Persona]:
    return TypeAdapter(Persona)


class Personas:
    """The stored versions of personas. A new version is a compare-and-swap on the head."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._now = clock

    def head(self, scope: Scope) -> Persona | None:
        """Return the latest version; None if there is none."""
        stored = self._store.persona(scope)
        return None if stored is None else read(stored)

    def version(self, scope: Scope, version: int) -> Persona:
        """Return one version; raises ValueError naming the versions there are."""
        stored = self._store.persona(scope, version)
        if stored is None:
            known = ", ".join(str(one.version) for one in self.history(scope)) or "none"
            raise ValueError(f"{scope.user!r} has no persona version {version}; it has {known}")
        return read(stored)

    def history(self, scope: Scope) -> list[Persona]:
        """Return all versions, oldest first."""
        return [read(stored) for stored in reversed(self._store.personas(scope))]

    def save(self, persona: Persona, *, epoch: int | None = None) -> Persona:
        """Store the next version and return it as stored.

        Raises PersonaConflict if the head is no longer the version this one was made from, and
        UnknownUser if the user was forgotten since `Store.epoch` gave `epoch`.
        """
        now = self._now()
        dated = replace(persona, created=now)
        self._store.add_persona(
            dated.scope,
            dated.version,
            json.dumps(as_json(dated), ensure_ascii=False),
            now,
            parent=dated.parent,
            origin=dated.origin,
            note=dated.note,
            scores=json.dumps(as_json(dated.scores)),
            epoch=epoch,
        )
        return dated


def read(stored: StoredPersona) -> Persona:
    """Return a stored version as a persona; raises ValueError for a document that is none."""
    return _adapter().validate_json(stored.document)


class PersonaHandle:
    """One user's persona: read it, see how it came to be, correct it.

    Every change is a new version; none is lost. `start` gives the persona of a user who has no
    stored version yet.
    """

    def __init__(self, scope: Scope, personas: Personas, start: Callable[[], Persona]) -> None:
        self.scope = scope
        self._personas = personas
        self._start = start

    @property
    def current(self) -> Persona:
        """The latest version; before there is one, what the user's statistics say."""
        return self._personas.head(self.scope) or self._start()

    def __str__(self) -> str:
        return str(self.current)

    def to_json(self) -> Json:
        """Return the current version as plain JSON data."""
        return self.current.to_json()

    def history(self) -> list[Persona]:
        """Return all stored versions, oldest first."""
        return self._personas.history(self.scope)

    def diff(self, old: int | None = None, new: int | None = None) -> Diff:
        """Return what changed between two versions; by default in the latest change."""
        after = self._version(new)
        return diff(self._parent(after) if old is None else self._version(old), after)

    def set(self, lines: Sequence[str | PersonaLine]) -> Persona:
        """Replace the lines; what stands already keeps its evidence, locked lines must stay.

        Raises ValueError for a line that cannot be one, or a locked line that is missing.
        """
        current = self.current
        wanted = [line if isinstance(line, PersonaLine) else PersonaLine(line) for line in lines]
        missing = {line.id for line in current.lines if line.locked} - {line.id for line in wanted}
        if missing:
            line = current.line(min(missing))
            raise ValueError(f"line {line.id} ({line.text!r}) is locked; unlock it to remove it")
        known = {line.id: line for line in current.lines}
        kept = tuple(known.get(line.id, line) for line in wanted)
        return self._change(replace(current, lines=kept), "set by hand")

    def lock(self, line: str) -> Persona:
        """Lock a line, named by id or text, so that no alignment changes it."""
        text = self.current.line(line).text
        return self._change(self.current.with_locked(line, True), f"locked: {text}")

    def unlock(self, line: str) -> Persona:
        """Unlock a line, named by id or text."""
        text = self.current.line(line).text
        return self._change(self.current.with_locked(line, False), f"unlocked: {text}")

    def rollback(self, version: int) -> Persona:
        """Return to an earlier version, as a new one; raises ValueError if there is none such."""
        target = self._personas.version(self.scope, version)
        return self._change(
            replace(self.current, lines=target.lines), f"back to version {version}", "rollback"
        )

    def _version(self, number: int | None) -> Persona:
        return self.current if number is None else self._personas.version(self.scope, number)

    def _parent(self, persona: Persona) -> Persona:
        if persona.parent:
            return self._personas.version(self.scope, persona.parent)
        return Persona(self.scope)

    def _change(
        self, changed: Persona, note: str, origin: Literal["user", "rollback"] = "user"
    ) -> Persona:
        if not changed.version:  # the start was never stored: keep it as the first version
            changed = replace(changed, version=self._personas.save(first(self._start())).version)
        return self._personas.save(
            replace(
                changed,
                version=changed.version + 1,
                parent=changed.version,
                origin=origin,
                note=note,
                scores={},
            )
        )


def first(persona: Persona) -> Persona:
    """Return a persona that nobody stored as its user's first version."""
    return replace(persona, version=1, parent=None, origin="start")

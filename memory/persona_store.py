"""Persona versions and alignments under way: text to the store, which does not look into it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert

from persona_agent.errors import PersonaConflict
from persona_agent.memory.reading import ReadableStore
from persona_agent.memory.rows import StoredPersona, microseconds, owner_of
from persona_agent.memory.schema import personas
from persona_agent.memory.snapshot import Snapshot, key
from persona_agent.types import Scope


class PersonaStore(ReadableStore):
    """What was made of a user's interactions, by version and by name."""

    def add_persona(
        self,
        scope: Scope,
        version: int,
        document: str,
        now: datetime,
        *,
        parent: int | None = None,
        origin: str = "",
        note: str = "",
        scores: str = "{}",
        epoch: int | None = None,
    ) -> StoredPersona:
        """Store persona `version` of a user, which must follow the latest; the first is 1.

        Raises PersonaConflict if the latest version is not `version` - 1: somebody else was
        faster; read again, decide again. Raises UnknownUser if the user was forgotten meanwhile:
        since `epoch`, or with nothing stored since.
        """
        at = microseconds(now)
        row = {
            "tenant": scope.tenant,
            "user": scope.user,
            "version": version,
            "parent": parent,
            "created": at,
            "origin": origin,
            "note": note,
            "document": document,
            "scores": scores,
        }
        with self.database.write() as connection:
            self._take_known(connection, owner_of(scope), now, epoch)
            head = Snapshot(connection).persona(scope)
            latest = head.version if head else 0
            if latest != version - 1:
                raise PersonaConflict(
                    f"persona version {version} of user {scope.user!r} cannot be stored: the "
                    f"latest is {latest}, so the next must be {latest + 1}; read the latest and "
                    "decide again"
                )
            connection.execute(insert(personas), row)
        return StoredPersona(version, parent, now, origin, note, document, scores)

    def persona(self, scope: Scope, version: int | None = None) -> StoredPersona | None:
        """Return a persona version, by default the latest; None if there is none."""
        with self.snapshot() as snapshot:
            return snapshot.persona(scope, version)

    def personas(self, scope: Scope) -> list[StoredPersona]:
        """Return all persona versions of a user, latest first."""
        with self.snapshot() as snapshot:
            return snapshot.personas(scope)

    def save_alignment(
        self, scope: Scope, name: str, state: str, now: datetime, *, epoch: int | None = None
    ) -> None:
        """Keep the state of an alignment under way, in place of an earlier one of this key.

        Raises UnknownUser if the user was forgotten meanwhile; see `add_persona`.
        """
        row = {
            "tenant": scope.tenant,
            "user": scope.user,
            "name": name,
            "state": state,
            "updated": microseconds(now),
        }
        with self.database.write() as connection:
            self._take_known(connection, owner_of(scope), now, epoch)
            connection.execute(self.sql.alignment, row)

    def load_alignment(self, scope: Scope, name: str) -> str | None:
        """Return the saved state of an alignment; None if there is none."""
        with self.snapshot() as snapshot:
            return snapshot.alignment(scope, name)

    def alignments(self, scope: Scope) -> list[str]:
        """Return the keys of a user's saved alignments, sorted."""
        with self.snapshot() as snapshot:
            return snapshot.alignments(scope)

    def delete_alignment(self, scope: Scope, name: str) -> bool:
        """Delete a saved alignment; return whether there was one."""
        with self.database.write() as connection:
            keys = {**key(owner_of(scope)), "name_": name}
            return bool(connection.execute(self.sql.drop_alignment, keys).rowcount)

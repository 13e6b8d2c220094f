"""What every part of the store shares: the database, its statements, and the lock on a user."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from os import PathLike
from typing import Self

from sqlalchemy import Connection

from persona_agent.closing import Closing
from persona_agent.errors import UnknownUser
from persona_agent.memory.database import Database
from persona_agent.memory.lineage import forgotten_at
from persona_agent.memory.rows import Owner, microseconds
from persona_agent.memory.screen import Screen
from persona_agent.memory.snapshot import Snapshot, key
from persona_agent.memory.writing import Statements

BUSY_TIMEOUT = 5.0


class OpenStore(Closing):
    """A database that is open as a store: what is read at one moment, and who may write next."""

    def __init__(
        self, database: Database, *, screen: Screen = Screen(), outbox: Sequence[str] = ()
    ) -> None:
        """Use an open database; `screen` says what is stored, see Screen.

        `outbox` names the kinds of job that every change of a user's own words asks for, in the
        transaction that makes it; see `jobs`.
        """
        self.database = database
        self.sql = Statements(database.dialect)
        self._screen = screen
        self._outbox = tuple(outbox)

    @classmethod
    def open(
        cls,
        where: str | PathLike[str],
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        screen: Screen = Screen(),
        outbox: Sequence[str] = (),
    ) -> Self:
        """Return the store at a path, a SQLAlchemy URL, or ":memory:"; created if absent.

        A writer waits `busy_timeout` seconds for another process to end its write.
        Raises StoreError, with the way out, for a database that is not ours, newer than this
        package, damaged, locked or read-only, and for a folder that is not there.
        """
        database = Database.open(where, busy_timeout=busy_timeout)
        return cls(database, screen=screen, outbox=outbox)

    def close(self) -> None:
        """Close the database. A store in memory is gone then."""
        self.database.close()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give a reader that sees the database at one moment, for several reads that must agree.

        Write nothing while it is open: a store in memory has only one connection.
        """
        with self.database.read() as connection:
            yield Snapshot(connection)

    def lock(self, connection: Connection, owner: Owner) -> None:
        """Make other writers of this user wait, before anything is read to be changed.

        On SQLite a write transaction has the whole database to itself already.
        """
        if self.sql.lock is not None:
            connection.execute(self.sql.lock, key(owner))

    def _take(
        self, connection: Connection, owner: Owner, now: datetime, numbers: int, more: int
    ) -> int:
        """Lock a user for this transaction, and return the first of `numbers` to write under.

        `more` is what the count of events grows by. An unknown user becomes known.
        """
        row = {
            "tenant": owner[0],
            "user": owner[1],
            "next_seq": numbers,
            "event_count": more,
            "epoch": secrets.randbits(62),
            "created": microseconds(now),
            "fact_seq": 0,
        }
        last: int = self.sql.take.returned(connection, row)
        return last - numbers

    def _take_known(
        self, connection: Connection, owner: Owner, now: datetime, epoch: int | None
    ) -> None:
        """Lock a user for this transaction, unless what is to be written is of a forgotten one."""
        self.lock(connection, owner)
        head = Snapshot(connection).heads([owner]).get(owner)
        forgotten = head is None and forgotten_at(connection, owner) is not None
        if forgotten or (epoch is not None and (head is None or head.epoch != epoch)):
            raise UnknownUser(
                f"user {owner[1]!r} was forgotten; what was made of the earlier memories is not "
                "stored"
            )
        self._take(connection, owner, now, 0, 0)

"""Connections that are kept: for transactions, and for single statements.

SQLAlchemy takes longer to take a connection from its pool, and to give it back, than SQLite takes
to begin, to find a row and to commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

MOST = 2  # idle connections of a kind: a server may have few for all of its clients


class Kept:
    """The connections of one engine, each for one user at a time. Safe from many threads."""

    def __init__(self, engine: Engine, *, most: int = MOST) -> None:
        """Keep at most so many connections while nobody uses them."""
        self._engine = engine
        self._most = most
        self._idle: list[Connection] = []

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a connection in a transaction: committed at the end, or nothing of it."""
        with self.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Give a connection; who begins a transaction must end it."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._engine.connect()
        try:
            yield connection
        except BaseException:
            if connection.invalidated:  # the server is gone, and with it what else is kept
                self.close()
            connection.close()
            raise
        if len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.close()

"""The least that could be done: rows by a raw driver, and a FAISS index a user.

Without a scope, a history, an index that follows other processes, or an answer in our types. The
rows lie where ours lie, in a SQLite file or on a PostgreSQL server, with the same durability.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from persona_agent.types import FloatArray, Interaction

Row = tuple[str, str, int, str, str | None, bytes]  # user, id, at, query, response, vector


class Rows(Protocol):
    """Where the rows lie."""

    def insert(self, many: Sequence[Row]) -> None:
        """Insert in one durable transaction."""

    def vectors(self, user: str) -> list[tuple[str, bytes]]:
        """Return the id and the vector of each row of a user."""

    def whole(self, user: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return (id, at, query, response) of these rows, in any order."""

    def close(self) -> None:
        """Let go of the connection."""


class SqliteRows:
    """A file by the standard library's driver, with full synchronisation."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
            self._sql.execute(f"PRAGMA {setting}")
        self._sql.execute(
            "CREATE TABLE memories (user TEXT, id TEXT, at INTEGER, query TEXT, response TEXT, "
            "vector BLOB, PRIMARY KEY (user, id))"
        )

    def insert(self, many: Sequence[Row]) -> None:
        self._sql.execute("BEGIN IMMEDIATE")
        self._sql.executemany("INSERT INTO memories VALUES (?, ?, ?, ?, ?, ?)", many)
        self._sql.execute("COMMIT")

    def vectors(self, user: str) -> list[tuple[str, bytes]]:
        return self._sql.execute(
            "SELECT id, vector FROM memories WHERE user = ?", (user,)
        ).fetchall()

    def whole(self, user: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        marks = ", ".join("?" * len(ids))
        return self._sql.execute(
            f"SELECT id, at, query, response FROM memories WHERE user = ? AND id IN ({marks})",
            (user, *ids),
        ).fetchall()

    def close(self) -> None:
        self._sql.close()


class PostgresqlRows:
    """A table in the public schema of a server by psycopg; its default is to commit durably."""

    def __init__(self, url: str) -> None:
        import psycopg  # the extra `postgres`

        self._sql = psycopg.connect(url, autocommit=True)
        self._sql.execute(
            "CREATE TABLE memories (person TEXT, id TEXT, at BIGINT, query TEXT, response TEXT, "
            "vector BYTEA, PRIMARY KEY (person, id))"
        )

    def insert(self, many: Sequence[Row]) -> None:
        with self._sql.transaction(), self._sql.cursor() as cursor:
            cursor.executemany("INSERT INTO memories VALUES (%s, %s, %s, %s, %s, %s)", many)

    def vectors(self, user: str) -> list[tuple[str, bytes]]:
        return self._sql.execute(
            "SELECT id, vector FROM memories WHERE person = %s", (user,)
        ).fetchall()

    def whole(self, user: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._sql.execute(
            "SELECT id, at, query, response FROM memories WHERE person = %s AND id = ANY(%s)",
            (user, list(ids)),
        ).fetchall()

    def close(self) -> None:
        self._sql.close()


class Floor:
    """Adds and searches over rows; vectors have shape (n, dim)."""

    def __init__(self, rows: Rows, dim: int) -> None:
        import faiss

        self._faiss, self._rows, self._dim = faiss, rows, dim
        self._users: dict[str, tuple[list[str], Any]] = {}  # Any: a FAISS index

    def close(self) -> None:
        self._rows.close()

    def clear(self) -> None:
        """Forget the indexes, so that every user is cold."""
        self._users.clear()

    def add(self, many: Sequence[Interaction], vectors: FloatArray) -> None:
        """Insert the rows, and add them to the indexes that are loaded."""
        self._rows.insert(
            [
                (one.scope.user, one.id, int(one.when.timestamp()), one.query, one.response, row)
                for one, row in zip(many, map(bytes, vectors), strict=True)
            ]
        )
        for one, row in zip(many, vectors, strict=True):
            known = self._users.get(one.scope.user)
            if known is not None:
                known[0].append(one.id)
                known[1].add(row[None])

    def search(self, user: str, vector: FloatArray, k: int) -> list[tuple[Any, ...]]:
        """Return the k rows of a user that are nearest to `vector`, shape (dim,)."""
        known = self._users.get(user)
        if known is None:
            rows = self._rows.vectors(user)
            index = self._faiss.IndexFlatIP(self._dim)
            index.add(np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(-1, self._dim))
            known = self._users[user] = ([row[0] for row in rows], index)
        ids, index = known
        _, places = index.search(vector[None], k)
        return self._rows.whole(user, [ids[place] for place in places[0]])

"""A database opened: its connections, transactions, and errors in plain words.

SQLite runs in WAL mode with full synchronisation: a transaction that has committed survives a
killed process and a power cut. Writers begin with BEGIN IMMEDIATE, so that two processes take
turns instead of failing half-way.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import W_OK as WRITABLE
from os import PathLike, access
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool, StaticPool

from persona_agent.errors import StoreError
from persona_agent.memory.schema import create, is_ready

DIALECTS = ("sqlite", "postgresql")
MEMORY = ":memory:"


class Database:
    """A database that is open, of this schema version, and safe to use from many threads."""

    def __init__(self, place: str, url: URL, *, busy_timeout: float) -> None:
        """Open or create the database; `place` is its name in messages."""
        self.place = place
        self.dialect = url.get_backend_name()
        self._busy_timeout = busy_timeout
        in_memory = self.dialect == "sqlite" and url.database in (None, "", MEMORY)
        # One connection is the whole of a database in memory, so readers too take turns there.
        self._writing = threading.RLock()
        self._reading = self._writing if in_memory else None
        self._engine = _engine(url, in_memory, busy_timeout)
        reader = {"isolation_level": "REPEATABLE READ"} if self.dialect == "postgresql" else {}
        self._reader = self._engine.execution_options(**reader)
        self._writer = self._engine.execution_options(immediate=True)
        try:
            self._prepare(in_memory)
        except BaseException:
            self._engine.dispose()
            raise

    @classmethod
    def open(cls, where: str | PathLike[str], *, busy_timeout: float = 5.0) -> Database:
        """Return the database at a path, a SQLAlchemy URL or ":memory:", created if absent.

        A writer waits `busy_timeout` seconds for another process's write. Raises StoreError.
        """
        text = str(where)
        if isinstance(where, str) and "://" in where:
            try:
                url = make_url(where)
            except ArgumentError as error:
                raise StoreError(f"{where!r} is not a database URL: {error}") from error
            place = url.render_as_string(hide_password=True)
            if url.get_backend_name() not in DIALECTS:
                raise StoreError(
                    f"{place} is of {url.get_backend_name()!r}; use {' or '.join(DIALECTS)}"
                )
        else:
            if not text:
                raise StoreError("the database path is empty; give a path, a URL or ':memory:'")
            url, place = URL.create("sqlite", database=text), text
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", MEMORY):
            _check_path(str(url.database))
        return cls(place, url, busy_timeout=busy_timeout)

    def close(self) -> None:
        """Close all connections; a database in memory is gone then."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements all see the database at one moment."""
        with self.translated():
            if self._reading is None:
                with self._reader.begin() as connection:
                    yield connection
            else:
                with self._reading, self._reader.begin() as connection:
                    yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a write transaction: committed at the end, or nothing of it."""
        with self.translated():
            if self.dialect == "sqlite":
                with self._writing, self._writer.begin() as connection:
                    yield connection
            else:
                with self._writer.begin() as connection:
                    yield connection

    def flush_log(self) -> None:
        """Move SQLite's write-ahead log into the database and empty it, if nobody reads it now.

        What was deleted stays in the log until then.
        """
        if self.dialect == "sqlite":
            with self.translated(), self._writing, self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the database's own errors into StoreError with a way out."""
        try:
            yield
        except DBAPIError as error:
            raise StoreError(self._explain(str(error.orig))) from error
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise StoreError(self._explain(str(error))) from error

    def _explain(self, said: str) -> str:
        for sign, meaning in MEANINGS.items():
            if sign in said.lower():
                return f"{self.place} {meaning.format(timeout=self._busy_timeout)} ({said})"
        return f"{self.place}: {said}"

    def _prepare(self, in_memory: bool) -> None:
        with self.read() as connection:
            ready = is_ready(connection, self.place)
        if self.dialect == "sqlite" and not in_memory:
            self._use_log()
        if not ready:
            with self.write() as connection:
                if not is_ready(connection, self.place):  # another process may have been faster
                    create(connection)

    def _use_log(self) -> None:
        """Set WAL mode, which stays in the file. SQLite does not wait for a lock here: we do."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("ROLLBACK")  # the mode changes outside transactions
                    mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
                    connection.exec_driver_sql("BEGIN")
            except DBAPIError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise StoreError(self._explain(str(error.orig))) from error
                time.sleep(0.02)
            else:
                if mode != "wal":
                    raise StoreError(
                        f"{self.place} cannot keep a write-ahead log (its mode stays {mode!r}); "
                        "put it on a local disk"
                    )
                return


MEANINGS = {
    "locked": "is locked: another process holds a write and did not end it within {timeout:g} s; "
    "wait for that process, or open with a longer busy_timeout",
    "readonly": "cannot be written: the file or its folder is read-only; change its permissions, "
    "or copy it elsewhere",
    "not a database": "is not a database; give the path of a new or an existing database file",
    "malformed": "is damaged; restore it from a backup",
    "unable to open": "cannot be opened; check that the path is right and may be written",
    "disk is full": "cannot grow: the disk is full; make room, nothing was stored",
    "disk i/o": "cannot be read or written: the disk reports an error",
}


def _check_path(path: str) -> None:
    """Raise StoreError if no database can be at `path`, before SQLite says it less clearly."""
    if path.startswith("file:"):
        return  # SQLite's own URI form: it knows
    file = Path(path)
    if file.is_dir():
        raise StoreError(f"{path} is a folder; give the path of a file in it")
    if not file.parent.is_dir():
        raise StoreError(f"{path} cannot be created: there is no folder {file.parent}; create it")
    if file.exists() and not access(file, WRITABLE):
        raise StoreError(f"{path} is read-only; change its permissions, or copy it elsewhere")
    if not access(file.parent, WRITABLE):
        raise StoreError(
            f"{path} is in the read-only folder {file.parent}; SQLite keeps its log beside the "
            "database, so the folder must be writable"
        )


def _engine(url: URL, in_memory: bool, busy_timeout: float) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url)
        options = {"check_same_thread": False, "timeout": busy_timeout}
        if in_memory:
            engine = create_engine(url, poolclass=StaticPool, connect_args=options)
        else:
            engine = create_engine(
                url, poolclass=QueuePool, pool_size=16, max_overflow=-1, connect_args=options
            )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"{url.get_backend_name()} needs a driver that is not installed: {error}. "
            "Install one, such as: pip install 'psycopg[binary]', and write postgresql+psycopg://"
        ) from error
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we write BEGIN ourselves
    for setting in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    raw = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):  # always; past SQLAlchemy, for speed
        raw.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")

"""A database opened: its connections, transactions, and errors in plain words.

SQLite runs in WAL mode with full synchronisation: a transaction that has committed survives a
killed process and a power cut. Writers begin with BEGIN IMMEDIATE, so that two processes take
turns instead of failing half-way. On PostgreSQL the writers of one user take turns by the lock on
that user's row, and those of different users do not wait for each other.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from os import W_OK as WRITABLE
from os import PathLike, access
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool, StaticPool

from persona_agent.errors import StoreError
from persona_agent.memory.kept import Kept
from persona_agent.memory.migrations import upgrade
from persona_agent.memory.schema import SCHEMA_VERSION, create, is_ready, version_of

DIALECTS = ("sqlite", "postgresql")
MEMORY = ":memory:"
CONNECT_TIMEOUT = 10  # seconds
SCHEMA_LOCK = 5027319  # any number, the same in every process: who makes or changes the tables


class Database:
    """A database that is open, of this schema version, and safe to use from many threads."""

    def __init__(self, place: str, url: URL, *, busy_timeout: float) -> None:
        """Open or create the database; `place` is its name in messages."""
        self.place = place
        self.dialect = url.get_backend_name()
        self.path: Path | None = None  # of SQLite on disk
        self._busy_timeout = busy_timeout
        in_memory = self.dialect == "sqlite" and url.database in (None, "", MEMORY)
        if self.dialect == "sqlite" and not in_memory:
            self.path = Path(str(url.database))
        # One connection is the whole of a database in memory, so readers too take turns there.
        self._writing: AbstractContextManager[object] = nullcontext()
        if self.dialect == "sqlite":
            self._writing = threading.RLock()
        self._reading = self._writing if in_memory else nullcontext()
        self._engine = _engine(url, in_memory, busy_timeout)
        reader = {"isolation_level": "REPEATABLE READ"} if self.dialect == "postgresql" else {}
        self._reader = Kept(self._engine.execution_options(**reader))
        self._writer = Kept(self._engine.execution_options(immediate=True))
        self._single = Kept(self._engine.execution_options(isolation_level="AUTOCOMMIT"))
        try:
            self._prepare(in_memory)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, where: str | PathLike[str], *, busy_timeout: float = 5.0) -> Database:
        """Return the database at a path, a SQLAlchemy URL or ":memory:", created if absent.

        A writer waits `busy_timeout` seconds for another process's write. Raises StoreError.
        """
        text = str(where)
        if isinstance(where, str) and "://" in where:
            try:
                url = make_url(where.replace("postgres://", "postgresql://", 1))
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
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", MEMORY):
            _check_path(str(url.database))
        return cls(place, url, busy_timeout=busy_timeout)

    def close(self) -> None:
        """Close all connections; a database in memory is gone then."""
        for kept in (self._reader, self._writer, self._single):
            kept.close()
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements all see the database at one moment."""
        with self.translated(), self._reading, self._reader.begin() as connection:
            yield connection

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """Give a connection for one statement by its driver's cursor, without a transaction."""
        with self.translated(), self._reading, self._single.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a write transaction: committed at the end, or nothing of it."""
        with self.translated(), self._writing, self._writer.begin() as connection:
            yield connection

    def flush_log(self) -> bool:
        """Move SQLite's write-ahead log into the database and empty it; false if a reader is in it.

        What was deleted stays in the log until then.
        """
        if self.dialect != "sqlite":
            return True
        with self.translated(), self._writing, self._engine.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")  # a checkpoint is made outside transactions
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
            connection.exec_driver_sql("BEGIN")
        return not busy

    def vacuum(self, tables: Sequence[str], *, full: bool) -> bool:
        """Let PostgreSQL free the space of deleted rows; return whether it did.

        Freed space keeps its bytes until it is used again. A `full` vacuum writes the tables anew,
        so that nothing of them is left, and keeps everybody else out meanwhile. It is not done for
        a role that does not own the tables, nor if others keep one of them locked.
        """
        named = [f"'{name}'::regclass" for name in tables]
        owned = f"SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class WHERE oid IN ({', '.join(named)})"
        engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        with self.translated(), engine.connect() as connection:
            if not connection.exec_driver_sql(owned).scalar():
                return False
            try:
                connection.exec_driver_sql(f"VACUUM {'FULL ' * full}{', '.join(tables)}")
            except DBAPIError as error:
                if "lock timeout" in str(error.orig):
                    return False
                raise
        return True

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
        for sign, meaning in MEANINGS[self.dialect].items():
            if sign in said.lower():
                return f"{self.place} {meaning.format(timeout=self._busy_timeout)} ({said.strip()})"
        return f"{self.place}: {said.strip()}"

    def _prepare(self, in_memory: bool) -> None:
        with self.read() as connection:
            ready = is_ready(connection, self.place) and version_of(connection) == SCHEMA_VERSION
        if self.dialect == "sqlite" and not in_memory:
            self._use_log()
        if not ready:
            with self.write() as connection:
                if self.dialect == "postgresql":
                    connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                if is_ready(connection, self.place):  # another process may have been faster
                    upgrade(connection)
                else:
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


SQLITE = {
    "locked": "is locked: another process holds a write and did not end it within {timeout:g} s; "
    "wait for that process, or open with a longer busy_timeout",
    "readonly": "cannot be written: the file or its folder is read-only; change its permissions, "
    "or copy it elsewhere",
    "not a database": "is not a database; give the path of a new or an existing database file",
    "malformed": "is damaged; restore it from a backup",
    "unable to open": "cannot be opened; check that the path is right and may be written",
    "disk is full": "cannot grow: the disk is full; make room, nothing was stored",
    "disk i/o": "cannot be read or written: the disk reports an error; check that it has room and is "
    "healthy, nothing was stored",
}
POSTGRESQL = {
    "password authentication failed": "refuses the password; check user and password in the URL",
    "no password supplied": "wants a password; put it into the URL or into PGPASSWORD",
    'role "': "knows no such user; check the user in the URL, or create the role",
    "no pg_hba.conf entry": "does not admit this user from this machine; see its pg_hba.conf",
    "too many clients": "has no connection left; raise max_connections, or run fewer processes",
    "remaining connection slots": "has no connection left; raise max_connections, or run fewer "
    "processes",
    "read-only transaction": "cannot be written: the server or the role is read-only; use the "
    "primary server, nothing was stored",
    "permission denied": "does not let this role do that; grant it the tables, nothing was stored",
    "lock timeout": "is locked: another process holds this user's row and did not end its write "
    "within {timeout:g} s; wait for it, or open with a longer busy_timeout",
    "no space left": "cannot grow: the disk is full; make room, nothing was stored",
    "could not extend file": "cannot grow: the disk is full; make room, nothing was stored",
    "deadlock detected": "broke off a write that waited in a circle; try again, nothing was stored",
    "does not exist": "is not there; create it (createdb NAME), or correct the name in the URL",
    "connection refused": "does not answer; start the server, or correct host and port in the URL",
    "no such file or directory": "does not answer; start the server, or correct host and port in "
    "the URL",
    "failed to resolve": "cannot be found; correct the host in the URL",
    "timeout expired": "does not answer; start the server, or correct host and port in the URL",
    "closed the connection": "broke the connection; try again: what was acknowledged is stored, "
    "and adding an event twice stores it once",
    "terminating connection": "broke the connection; try again: what was acknowledged is stored, "
    "and adding an event twice stores it once",
    "connection is lost": "broke the connection; try again: what was acknowledged is stored, "
    "and adding an event twice stores it once",
}
MEANINGS = {"sqlite": SQLITE, "postgresql": POSTGRESQL}


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
            engine = create_engine(
                url,
                pool_size=2,
                max_overflow=13,
                connect_args={"connect_timeout": CONNECT_TIMEOUT},
            )
            wait = f"SET lock_timeout = {max(1, round(busy_timeout * 1000))}"
            event.listen(engine, "connect", partial(_set_up_server, wait))
            return engine
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
    # The log goes into the database every 8,000 pages: every 1,000, one add in a hundred waits.
    for setting in (
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "wal_autocheckpoint=8000",
    ):
        connection.execute(f"PRAGMA {setting}")


def _set_up_server(wait: str, connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(wait)
    cursor.close()
    connection.commit()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    raw = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):  # always; past SQLAlchemy, for speed
        raw.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")

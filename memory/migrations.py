"""Migrations: how a database of an older schema becomes one of this.

Each step is a function over Alembic's operations, the same for SQLite and PostgreSQL. The steps
run in one transaction under the store's write lock, when an older database is opened: either the
new schema is there with its version, or nothing changed. They are code, not files that Alembic
finds by path, so that no installation can lose one; the version is the one in `meta`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, Connection, Text, update

from persona_agent.memory.schema import (
    SCHEMA_VERSION,
    VERSION_KEY,
    adapter_events,
    adapters,
    api_keys,
    evidence,
    fact_vectors,
    facts,
    jobs,
    leftovers,
    meta,
    receipts,
    retrievals,
    summaries,
    summary_events,
    summary_parts,
    tombstones,
    version_of,
)
from persona_agent.memory.schema import operations as asked

if TYPE_CHECKING:
    from alembic.operations import Operations


def _to_2(operations: Operations) -> None:
    """Trust on events; facts and their evidence, jobs, receipts, tombstones."""
    operations.add_column("events", Column("trust", Text, nullable=False, server_default="user"))
    operations.execute("UPDATE events SET trust = role WHERE role IN ('assistant', 'tool')")
    operations.execute("UPDATE events SET trust = 'tool' WHERE role = 'system'")
    for table in (facts, evidence, jobs, receipts, tombstones):
        table.create(operations.get_bind())


def _to_3(operations: Operations) -> None:
    """Facts are searched: their vectors, and a number that says when they changed; retrievals."""
    number = Column("fact_seq", BigInteger, nullable=False, server_default="0")
    operations.add_column("users", number)
    operations.execute("UPDATE users SET fact_seq = 1")
    for table in (fact_vectors, retrievals):
        table.create(operations.get_bind())


def _to_4(operations: Operations) -> None:
    """The server: keys, and operations that can be asked about."""
    for table in (api_keys, asked):
        table.create(operations.get_bind())


def _to_5(operations: Operations) -> None:
    """Hierarchical summaries."""
    for table in (summaries, summary_events, summary_parts):
        table.create(operations.get_bind())


def _to_6(operations: Operations) -> None:
    """Adapters, what they were made of, and what is left of those that are no more."""
    for table in (adapters, adapter_events, leftovers):
        table.create(operations.get_bind())


# To the version that is the key, from the one before. A step that was released never changes: when
# a table of an earlier step changes, its form of then is written out there.
STEPS: Mapping[int, Callable[[Operations], None]] = {
    2: _to_2,
    3: _to_3,
    4: _to_4,
    5: _to_5,
    6: _to_6,
}


def upgrade(connection: Connection) -> int:
    """Bring the schema to this package's version, in the connection's transaction.

    Returns the number of steps that it took. The caller holds the lock against other upgraders.
    """
    found = version_of(connection)
    if found >= SCHEMA_VERSION:
        return 0
    from alembic.migration import MigrationContext  # heavy, and needed once in a database's life
    from alembic.operations import Operations

    operations = Operations(MigrationContext.configure(connection))
    for version in range(found + 1, SCHEMA_VERSION + 1):
        STEPS[version](operations)
        stamp = update(meta).where(meta.c.key == VERSION_KEY).values(value=str(version))
        connection.execute(stamp)
    return SCHEMA_VERSION - found

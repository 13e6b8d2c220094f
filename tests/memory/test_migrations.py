"""An older database becomes one of this version when it is opened, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.pool import NullPool

from persona_agent.errors import StoreError
from persona_agent.memory.schema import SCHEMA_VERSION, TABLES, version_of
from persona_agent.memory.store import Store
from persona_agent.types import Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
# a database in memory is never old, and cannot be looked at from outside
pytestmark = pytest.mark.parametrize("where", ["file", "postgresql"], indirect=True)

SCHEMA_1 = (Path(__file__).parent / "schema_1.sql").read_text()
CONTENT = """
INSERT INTO users VALUES ('default', 'ann', 2, 2, 77, 0);
INSERT INTO events VALUES ('default', 'ann', 'e0', 0, 5, NULL, NULL, 'user', 'hello', NULL, NULL,
    NULL, '[]', '{}', 'h', 0);
INSERT INTO events VALUES ('default', 'ann', 'e1', 1, 6, NULL, NULL, 'assistant', 'hi', NULL, NULL,
    NULL, '[]', '{}', 'h', 0);
INSERT INTO changes VALUES ('default', 'ann', 0, 'e0', 'ADD', 0, NULL);
INSERT INTO changes VALUES ('default', 'ann', 1, 'e1', 'ADD', 0, NULL);
"""


def connect(where: str) -> Connection:
    url = where if "://" in where else f"sqlite:///{where}"
    return create_engine(url, poolclass=NullPool).connect()


@pytest.fixture
def old(where: str) -> str:
    """Give the place of a database of schema version 1 that holds two events."""
    script = SCHEMA_1 + CONTENT
    if "://" in where:
        assert make_url(where).drivername == "postgresql+psycopg"
        script = script.replace("BLOB", "BYTEA")
    with connect(where) as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.commit()
    return where


def test_an_old_database_is_upgraded_with_all_it_holds(old: str) -> None:
    with Store.open(old) as store:
        assert [one.query for one in store.get_all(ANN)] == ["hello", "hi"]
        assert store.count(ANN) == 2
    with connect(old) as connection:
        assert version_of(connection) == SCHEMA_VERSION
        told = connection.exec_driver_sql("SELECT trust FROM events ORDER BY seq").scalars()
        assert list(told) == ["user", "assistant"]
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, TABLES) == []


def test_a_new_database_is_what_the_migrations_lead_to(where: str) -> None:
    Store.open(where).close()
    with connect(where) as connection:
        assert compare_metadata(MigrationContext.configure(connection), TABLES) == []


def test_many_open_an_old_database_at_once(old: str) -> None:
    problems: list[StoreError] = []

    def work() -> None:
        try:
            with Store.open(old) as store:
                assert store.count(ANN) == 2
        except StoreError as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_migration_that_fails_changes_nothing(old: str) -> None:
    with connect(old) as connection:
        connection.exec_driver_sql("CREATE TABLE tombstones (a INTEGER)")  # the last step's table
        connection.commit()
        with pytest.raises(StoreError, match="tombstones"):
            Store.open(old)
        assert version_of(connection) == 1
        connection.exec_driver_sql("DROP TABLE tombstones")
        connection.commit()
    with Store.open(old) as store:
        assert store.count(ANN) == 2

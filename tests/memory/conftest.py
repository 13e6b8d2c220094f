"""What the memory tests share: stores of each kind, and interactions to put in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from persona_agent.eval.embedded_postgresql import embedded_postgresql, is_installed
from persona_agent.eval.embedded_postgresql import new_schema as schema_of
from persona_agent.memory.store import Store

KINDS = ("file", "memory", "postgresql")
NUMBERS = count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Give the URL of a PostgreSQL server of our own, started once a session."""
    if not is_installed():
        reason = "the embedded PostgreSQL is not installed; it comes with the extra dev"
        if os.environ.get("PERSONA_AGENT_REQUIRE_REAL") == "1":
            pytest.fail(f"{reason}, and nothing may be left out", pytrace=False)
        pytest.skip(reason)
    with embedded_postgresql() as server:
        yield server


@pytest.fixture
def new_schema(postgresql: str) -> Callable[[], str]:
    """Give a function that returns the URL of a new, empty schema of the server."""
    return lambda: schema_of(postgresql, f"s{os.getpid()}_{next(NUMBERS)}")


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

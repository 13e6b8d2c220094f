"""What the memory tests share: stores of each kind, and interactions to put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persona_agent.memory.store import Store

KINDS = ("file", "memory", "postgresql")


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

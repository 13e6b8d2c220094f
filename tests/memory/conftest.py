"""What the memory tests share: stores of each kind, and interactions to put in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from persona_agent.memory.store import Store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Give an empty store, of every kind there is."""
    where = ":memory:" if request.param == "memory" else tmp_path / "store.db"
    with Store.open(where) as opened:
        yield opened

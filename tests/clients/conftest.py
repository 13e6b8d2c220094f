"""What the tests of clients share: an endpoint, and an agent that knows something of alice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persona_agent.agent import PersonaAgent
from tests.clients.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give an endpoint of our own."""
    made = Upstream()
    yield made
    made.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[PersonaAgent]:
    """Give an agent that knows something of alice."""
    clock = iter(range(10_000))
    with PersonaAgent.open(
        tmp_path / "persona.db",
        llm=None,
        embedder="hash",
        clock=lambda: datetime.fromtimestamp(1_800_000_000 + next(clock), UTC),
    ) as made:
        made.add("I only read short books.", user_id="alice")
        made.persona("alice").set(["Reads short books only."])
        yield made

"""What was recalled is counted without being written, then written, reported and forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from persona_agent.memory.audit import audit
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.forget import forget
from persona_agent.memory.retrievals import Retrievals
from persona_agent.memory.schema import retrievals
from persona_agent.memory.store import Store
from persona_agent.memory.telemetry import Silent
from persona_agent.types import Interaction, RecallRequest, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN, BOB = Scope("ann"), Scope("bob")


@pytest.fixture
def memory(store: Store) -> EpisodicMemory:
    """Give a memory of two users, on every kind of store."""
    memory = EpisodicMemory(store, HashEmbedder(32))
    events = [
        Interaction(scope, NOW + timedelta(days=i), f"walked {i} miles", id=f"{scope.user}{i}")
        for scope in (ANN, BOB)
        for i in range(4)
    ]
    memory.add(events, NOW)
    return memory


def recall(memory: EpisodicMemory, scope: Scope = ANN, k: int = 1) -> None:
    memory.recall([RecallRequest(scope, "recent", k=k)])


def counted(store: Store) -> dict[str, tuple[int, int]]:
    with store.database.read() as connection:
        rows = connection.execute(select(retrievals)).all()
    return {row.event: (row.times, row.last) for row in rows}


def unseen(store: Store) -> list[str]:
    return [one.event for one in audit(store) if one.kind == "never_retrieved"]


def test_recalls_are_written_when_the_memory_is_closed_and_add_up(memory: EpisodicMemory) -> None:
    recall(memory)
    recall(memory, k=2)
    assert counted(memory.store) == {}
    memory.close(NOW)
    first = int(NOW.timestamp() * 1_000_000)
    assert counted(memory.store) == {"ann3": (2, first), "ann2": (1, first)}
    recall(memory)
    memory.close(NOW + timedelta(seconds=1))
    assert counted(memory.store) == {"ann3": (3, first + 1_000_000), "ann2": (1, first)}


def test_the_audit_names_what_is_never_retrieved_of_those_who_are_recalled(
    memory: EpisodicMemory,
) -> None:
    assert unseen(memory.store) == []  # nobody was ever asked for
    recall(memory, k=3)
    memory.close(NOW)
    assert unseen(memory.store) == ["ann0"]


def test_what_goes_takes_its_count_with_it(memory: EpisodicMemory) -> None:
    recall(memory, k=4)
    memory.close(NOW)
    memory.delete(ANN, "ann1", NOW)
    assert sorted(counted(memory.store)) == ["ann0", "ann2", "ann3"]
    recall(memory, k=3)
    recall(memory, BOB)
    assert forget(memory.store, ANN, NOW).rows["retrievals"] == 3
    memory.close(NOW)  # what was in memory of the forgotten is not written
    assert sorted(counted(memory.store)) == ["bob3"]


def test_counting_is_bounded_and_written_with_an_add(memory: EpisodicMemory) -> None:
    counts = Retrievals(most=3)
    counts.note(("default", "ann"), ["ann0", "ann1", "ann2"])
    counts.note(("default", "ann"), ["ann2", "ann3"])
    counts.note(("default", "bob"), ["bob0"])
    assert len(counts) == 3
    assert counts.write(memory.store, NOW) == 3
    assert {event: times for event, (times, _) in counted(memory.store).items()} == {
        "ann0": 1,
        "ann1": 1,
        "ann2": 2,
    }
    assert (len(counts), counts.write(memory.store, NOW)) == (0, 0)


class Noting(Silent):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def count(self, name: str, by: int = 1) -> None:
        self.told.append(name)


def test_a_disk_that_refuses_is_told_but_no_error_of_closing(tmp_path: Path) -> None:
    told = Noting()
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        memory = EpisodicMemory(store, HashEmbedder(32), observer=told)
        memory.add([Interaction(ANN, NOW, "q")], NOW)
        recall(memory)
        store.close()
        path.rename(tmp_path / "away")
        path.mkdir()
        memory.close(NOW)
    assert told.told[-1] == "close_failures"

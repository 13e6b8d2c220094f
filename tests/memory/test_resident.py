"""The bound of the index holds for the memory that the system gives to the process."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from persona_agent.eval.bench.resident import measure
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.generations import label_of
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

pytestmark = [
    pytest.mark.real("faiss"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MIB = 1 << 20
BOUND = 16 * MIB
# Beside the index: one user while it is loaded, as rows, as bytes and as an array (3 x 1 MiB),
# SQLite's page cache (2 MiB a connection), and what the allocator keeps in pieces.
MARGIN = 12 * MIB
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
USERS, EVENTS, DIM = 100, 250, 1024


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database of a hundred users with 1 MiB of vectors each."""
    path = tmp_path_factory.mktemp("resident") / "store.db"
    rows = np.random.default_rng(1).standard_normal((EVENTS, DIM)).astype(np.float32)
    with Store.open(path) as store:
        label = label_of(store, HashEmbedder(DIM))
        for user in range(USERS):
            scope = Scope(f"user {user}")
            some = [
                Interaction(scope, NOW + timedelta(minutes=i), f"query {i}") for i in range(EVENTS)
            ]
            store.add(some, rows, label, now=NOW)
    return path


def test_many_more_users_than_fit_do_not_grow_the_process_beyond_the_bound(database: Path) -> None:
    found = measure(database, BOUND)
    assert found.users == USERS
    assert found.whole > 3 * (BOUND + MARGIN)
    assert found.growth < BOUND + MARGIN


def test_without_a_bound_the_process_does_grow(database: Path) -> None:
    assert measure(database, 1 << 30).growth > USERS * EVENTS * DIM * 4

"""The index on disk: whole or not used, behind or caught up, never wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.errors import StoreError
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.index import Index
from persona_agent.memory.index_file import IndexFile, index_path
from persona_agent.memory.lookup import Hit, Lookup
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIM = 8
USERS = [Scope(f"u{number}") for number in range(5)]
RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((20, DIM)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


def event(number: int, scope: Scope) -> Interaction:
    return Interaction(scope, NOW + timedelta(minutes=number), f"query {number}", id=f"e{number}")


def filled(path: Path) -> Store:
    store = Store.open(path)
    for scope in USERS:
        store.add([event(i, scope) for i in range(20)], ROWS, "h", now=NOW)
    return store


def search(index: Index, store: Store) -> list[list[Hit]]:
    with store.snapshot() as snapshot:
        return index.find(snapshot, [Lookup(scope, 5, ROWS[3]) for scope in USERS]).hits


def save(index: Index, store: Store) -> int:
    search(index, store)
    with store.snapshot() as snapshot:
        return index.save(snapshot)


def vectors_read(store: Store, index: Index, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often the store is asked for vectors while all users are searched."""
    from persona_agent.memory.snapshot import Snapshot

    asked = 0
    inner = Snapshot.vectors

    def counted(*given: object) -> object:
        nonlocal asked
        asked += 1
        return inner(*given)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(Snapshot, "vectors", counted)
    search(index, store)
    monkeypatch.undo()
    return asked


def test_a_reopened_index_is_warm_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        fresh = Index("h", file=path)
        assert vectors_read(store, fresh, monkeypatch) == len(USERS)
        assert save(fresh, store) == len(USERS)
        reopened = Index("h", file=path)
        assert vectors_read(store, reopened, monkeypatch) == 0
        assert search(Index("h", file=path), store) == search(Index("h"), store)
        with store.snapshot() as snapshot:
            assert reopened.verify(snapshot) == []
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_file_that_is_behind_catches_up(tmp_path: Path) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        save(Index("h", file=path), store)
        store.add([event(99, USERS[0])], ROWS[3:4], "h", now=NOW)
        store.delete(USERS[1], "e3", NOW)
        store.delete_all(USERS[2], NOW)
        store.add([event(50, USERS[2])], ROWS[:1], "h", now=NOW)
        assert search(Index("h", file=path), store) == search(Index("h"), store)


@pytest.mark.parametrize("cut", [0, 1, 7, 30, 500, -1, -40, -100])
def test_a_file_cut_short_is_not_used(tmp_path: Path, cut: int) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        save(Index("h", file=path), store)
        path.write_bytes(path.read_bytes()[:cut])
        assert len(IndexFile(path, "h")) == 0
        assert search(Index("h", file=path), store) == search(Index("h"), store)
        assert save(Index("h", file=path), store) == len(USERS)
        assert len(IndexFile(path, "h")) == len(USERS)


def test_a_flipped_bit_anywhere_changes_no_answer(tmp_path: Path) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        save(Index("h", file=path), store)
        whole = path.read_bytes()
        expected = search(Index("h"), store)
        for place in np.random.default_rng(1).integers(0, len(whole), 60).tolist():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            path.write_bytes(damaged)
            assert search(Index("h", file=path), store) == expected


def test_a_file_of_another_embedder_or_database_is_not_used(tmp_path: Path) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        save(Index("h", file=path), store)
    assert len(IndexFile(path, "other")) == 0
    assert "of embedder h" in IndexFile(path, "other").problem
    with Store.open(tmp_path / "new.db") as store:
        store.add([event(i, USERS[0]) for i in range(3)], ROWS[:3], "h", now=NOW)
        assert [len(hits) for hits in search(Index("h", file=path), store)] == [3, 0, 0, 0, 0]


def test_forgetting_a_user_removes_the_file(tmp_path: Path) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        index = Index("h", file=path)
        save(index, store)
        assert path.exists()
        index.forget(("default", "u1"))
        assert not path.exists()
        assert search(index, store) == search(Index("h"), store)


def test_who_is_forgotten_while_the_index_is_saved_is_not_in_the_file(tmp_path: Path) -> None:
    path = index_path(tmp_path / "store.db")
    with filled(tmp_path / "store.db") as store:
        index = Index("h", file=path)
        save(index, store)
        with store.snapshot() as snapshot:
            assert not index.unsave(snapshot)
        store.delete_all(USERS[1], NOW)  # by another process, which could not see the new file
        with store.snapshot() as snapshot:
            assert index.unsave(snapshot)
        assert not path.exists()


def test_an_agent_is_warm_when_it_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> PersonaAgent:
        return PersonaAgent.open(tmp_path / "a.db", llm=None, embedder=HashEmbedder(16))

    with opened() as agent:
        agent.add("I like tea", user_id="ann")
        agent.search("tea", user_id="ann")
        assert agent.memory.save_index() == 1
    with opened() as agent:
        monkeypatch.setattr("persona_agent.memory.snapshot.Snapshot.vectors", None)  # not asked
        assert len(agent.search("tea", user_id="ann").results) == 1
        monkeypatch.undo()
        agent.delete_all(user_id="ann")
        assert not index_path(tmp_path / "a.db").exists()


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with filled(tmp_path / "store.db") as store:
        index = Index("h", file=folder / "x.index")
        with pytest.raises(StoreError, match="Nothing is lost"):
            save(index, store)
        with (
            store.snapshot() as snapshot,
            pytest.raises(ValueError, match=r"give Index\(..., file=\)"),
        ):
            Index("h").save(snapshot)

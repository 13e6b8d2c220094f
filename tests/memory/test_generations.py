"""Embedders: one a database, known by what it does; another takes over without a gap."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.generations import EmbedderChanged, Fingerprint, label_of, reindex
from persona_agent.memory.store import Store
from persona_agent.types import FloatArray, Interaction, RecallRequest, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
USERS = [Scope("ann"), Scope("bob"), Scope("ann", "other tenant")]


class Turned(HashEmbedder):
    """Another model under the same name, with the same dimension."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        return np.ascontiguousarray(np.roll(super().embed(texts), 3, axis=1))


class Rounding(HashEmbedder):
    """The same model on another processor."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        rows = super().embed(texts)
        return rows + np.float32(1e-4) * np.sign(rows)


def fill(store: Store, embedder: HashEmbedder, count: int = 20) -> EpisodicMemory:
    memory = EpisodicMemory(store, embedder)
    for scope in USERS:
        memory.add(
            [
                Interaction(scope, NOW + timedelta(minutes=i), f"film number {i}", id=f"e{i}")
                for i in range(count)
            ],
            NOW,
        )
    return memory


def found(store: Store, embedder: HashEmbedder) -> list[tuple[str, float]]:
    requests = [RecallRequest(scope, "similar", "film number 7", k=3) for scope in USERS]
    return [
        (one.interaction.id, one.score)
        for reply in EpisodicMemory(store, embedder).recall(requests)
        for one in reply.memories
    ]


@pytest.mark.parametrize("other", [Turned(64), HashEmbedder(32), HashEmbedder(65)])
def test_another_embedder_is_refused_with_the_way_out(store: Store, other: HashEmbedder) -> None:
    fill(store, HashEmbedder(64))
    memory = EpisodicMemory(store, other)
    with pytest.raises(EmbedderChanged, match=r"hash-64 .*--embedder hash-\d+ reindex"):
        memory.add([Interaction(USERS[0], NOW, "new")], NOW)
    with pytest.raises(EmbedderChanged):
        memory.recall([RecallRequest(USERS[0], "similar", "film")])
    assert len(memory.recall([RecallRequest(USERS[0])])[0].memories) == 8  # needs no vectors


def test_rounding_is_not_another_embedder(store: Store) -> None:
    fill(store, HashEmbedder(64))
    assert label_of(store, Rounding(64)) == "hash-64"
    assert Fingerprint.of(HashEmbedder(64)).digest != Fingerprint.of(Turned(64)).digest
    mine = Fingerprint.of(HashEmbedder(64))
    assert Fingerprint.unpack(mine.pack("x")).is_of(mine)


def test_a_database_from_before_fingerprints_is_adopted_by_its_own_embedder(store: Store) -> None:
    one = Interaction(USERS[0], NOW, "film")
    store.add([one], HashEmbedder(64).embed(["film"]), "hash-64", now=NOW)
    with pytest.raises(EmbedderChanged, match="of embedder unknown"):
        label_of(store, HashEmbedder(32))
    assert label_of(store, HashEmbedder(64)) == "hash-64"


def test_reindex_switches_and_removes_the_old_vectors(store: Store) -> None:
    fill(store, HashEmbedder(64))
    store.add([Interaction(USERS[0], NOW, "film without a vector")], now=NOW)
    told: list[tuple[int, int]] = []
    done = reindex(store, Turned(64), on_progress=lambda *now: told.append(now))
    assert (done.embedded, done.removed) == (61, 60)
    assert told[-1] == (61, 61)
    assert found(store, Turned(64))[0] == ("e7", pytest.approx(1))
    with pytest.raises(EmbedderChanged):
        found(store, HashEmbedder(64))
    assert reindex(store, Turned(64)).embedded == 0
    reindex(store, HashEmbedder(64))  # and back again
    assert found(store, HashEmbedder(64))[0] == ("e7", pytest.approx(1))


def test_the_old_embedder_serves_until_the_switch_and_then_stops(store: Store) -> None:
    memory = fill(store, HashEmbedder(64), count=5)
    request = [RecallRequest(USERS[0], "similar", "film number 3", k=1)]

    def meanwhile(done: int, total: int) -> None:
        memory.add([Interaction(USERS[0], NOW, f"added after {done}")], NOW)
        assert memory.recall(request)[0].memories[0].interaction.id == "e3"

    memory.recall(request)
    one_more = Interaction(USERS[0], NOW, "added at last")
    calls = iter([meanwhile])
    done = reindex(store, Turned(64), on_progress=lambda *n: next(calls, lambda *_: None)(*n))
    assert done.embedded == 16
    new = EpisodicMemory(store, Turned(64))
    (reply,) = new.recall([RecallRequest(USERS[0], "similar", "added after 15", k=1)])
    assert reply.memories[0].score == pytest.approx(1)
    stale = EpisodicMemory(store, HashEmbedder(64))
    with pytest.raises(EmbedderChanged):
        stale.add([one_more], NOW)
    memory.index.clear()
    with pytest.raises(EmbedderChanged):  # it noticed when its vectors were gone
        memory.recall(request)


KILLED = """
import os, signal, sys
from persona_agent.memory import generations
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.store import Store
generations.SOME = 16
with Store.open(sys.argv[1]) as store:
    calls = iter(range(int(sys.argv[2])))
    def progress(done, total):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
    generations.reindex(store, HashEmbedder(32), on_progress=progress)
"""


def test_a_killed_reindex_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        fill(store, HashEmbedder(64))
        before = found(store, HashEmbedder(64))
    for steps in (0, 1):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(steps)], check=False)
        assert killed.returncode == -signal.SIGKILL
        with Store.open(path) as store:
            assert found(store, HashEmbedder(64)) == before
    with Store.open(path) as store:
        done = reindex(store, HashEmbedder(32))
        assert done.embedded == 60 - 3 * 16
        assert found(store, HashEmbedder(32))[0] == ("e7", pytest.approx(1))

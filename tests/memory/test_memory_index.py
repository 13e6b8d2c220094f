"""The index: exact, current, bounded."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.errors import StoreError
from persona_agent.memory.flat import FlatSearch
from persona_agent.memory.index import Index
from persona_agent.memory.lookup import Hit, Lookup
from persona_agent.memory.store import Store, UnknownInteraction
from persona_agent.types import FloatArray, Interaction, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
DIM = 4

OTHER_PROCESS = """
import sys
import numpy as np
from datetime import UTC, datetime
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope
now = datetime(2026, 11, 24, tzinfo=UTC)
with Store.open(sys.argv[1]) as store:
    one = Interaction(Scope("ann"), now, "theirs", id="theirs")
    store.add([one], np.eye(1, 4, dtype=np.float32), "h", now=now)
    store.delete(Scope("ann"), "e0", now)
"""


def event(number: int, scope: Scope = ANN, minutes: int | None = None) -> Interaction:
    when = NOW + timedelta(minutes=number if minutes is None else minutes)
    return Interaction(scope, when, f"query {number}", id=f"e{number}")


def unit(rows: FloatArray) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-6), np.float32)


def find(index: Index, store: Store, *lookups: Lookup) -> list[list[Hit]]:
    with store.snapshot() as snapshot:
        return index.find(snapshot, lookups).hits


def ids(index: Index, store: Store, lookup: Lookup) -> list[str]:
    return [hit.id for hit in find(index, store, lookup)[0]]


def nearest(store: Store, lookup: Lookup) -> list[Hit]:
    """Return what `find` must, worked out the long way."""
    assert lookup.vector is not None
    seen = {one.id for one in store.get_all(lookup.scope, before=lookup.before)}
    names, rows = store.vectors(lookup.scope.owner, "h")
    scored = [
        (-round(float(np.dot(row.astype(float), lookup.vector.astype(float))), 6), rank, name)
        for rank, (name, row) in enumerate(zip(names, rows, strict=True))
        if name in seen
    ]
    return [Hit(name, -score) for score, _, name in sorted(scored)[: lookup.k]]


def latest(store: Store, lookup: Lookup) -> list[str]:
    return [one.id for one in store.recent(lookup.scope, lookup.k, before=lookup.before)]


AGENT = st.sampled_from([None, "a", "b"])
# Few different directions, so that equal scores are common.
DIRECTION = st.integers(0, 5)
STEP = st.tuples(
    st.sampled_from(["add", "add", "add", "update", "delete", "unembedded", "forget"]),
    st.integers(0, 30),
    st.integers(0, 5),
    AGENT,
    DIRECTION,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(STEP, min_size=1, max_size=25), min_size=1, max_size=4),
    st.lists(st.tuples(DIRECTION, st.integers(0, 12), AGENT, st.booleans()), max_size=4),
    st.integers(0, 99),
)
def test_whatever_was_written_search_equals_brute_force(
    rounds: list[list[tuple[str, int, int, str | None, int]]],
    asked: list[tuple[int, int, str | None, bool]],
    choice: int,
) -> None:
    directions = unit(np.random.default_rng(3).standard_normal((6, DIM)).astype(np.float32))
    index = Index("h", max_bytes=12_000)
    with Store.open(":memory:") as store:
        for steps in rounds:
            for action, number, minutes, agent, direction in steps:
                one = event(number, Scope("ann", agent=agent), minutes)
                vector = directions[[direction]]
                known = {e.id for e in store.get_all(ANN)}
                if action == "add":
                    store.add([one], vector, "h", now=NOW)
                elif action == "unembedded":
                    store.add([one], now=NOW)
                elif action == "forget":
                    store.delete_all(Scope("ann", agent=agent), NOW)
                elif one.id in known and action == "delete":
                    store.delete(ANN, one.id, NOW)
                elif one.id in known:
                    store.update(
                        ANN, one.id, outcome=str(direction), vector=vector[0], embedder="h", now=NOW
                    )
            stored = [one.id for one in store.get_all(ANN)]
            for direction, k, agent, narrowed in asked:
                before = stored[choice % len(stored)] if narrowed and stored else None
                lookup = Lookup(Scope("ann", agent=agent), k, directions[direction], before)
                assert find(index, store, lookup)[0] == nearest(store, lookup)
                recent = replace(lookup, vector=None)
                assert ids(index, store, recent) == latest(store, recent)


def test_many_users_in_one_call_equal_each_alone() -> None:
    rng = np.random.default_rng(1)
    with Store.open(":memory:") as store:
        lookups = []
        for user in range(12):
            scope = Scope(f"u{user}")
            rows = unit(rng.standard_normal((30, DIM)).astype(np.float32))
            store.add([event(i, scope) for i in range(30)], rows, "h", now=NOW)
            lookups += [Lookup(scope, 5, rows[0]), Lookup(scope, 3, None, "e7")]
        lookups.append(Lookup(Scope("nobody"), 3, np.ones(DIM, np.float32)))
        together = find(Index("h"), store, *lookups)
        assert together == [find(Index("h"), store, one)[0] for one in lookups]
        assert together[-1] == []
        assert all(
            len(hits) == lookup.k for hits, lookup in zip(together[:-1], lookups, strict=False)
        )


def test_memory_is_bounded_and_the_least_used_user_goes() -> None:
    one = np.eye(1, DIM, dtype=np.float32)[0]
    with Store.open(":memory:") as store:
        for user in range(6):
            scope = Scope(f"u{user}")
            rows = np.ones((10, DIM), np.float32)
            store.add([event(i, scope) for i in range(10)], rows, "h", now=NOW)
        index = Index("h", max_bytes=12_000)
        for user in (0, 1, 2, 0, 3, 4, 5):
            assert len(ids(index, store, Lookup(Scope(f"u{user}"), 3, one))) == 3
            assert 0 < index.nbytes <= 12_000
        assert len(index) == 3
        big = [event(i, Scope("big")) for i in range(80)]
        store.add(big, np.ones((80, DIM), np.float32), "h", now=NOW)
        assert len(ids(index, store, Lookup(Scope("big"), 80, one))) == 80
        assert index.nbytes <= 12_000
        assert len(ids(index, store, Lookup(Scope("u0"), 1, one))) == 1


def test_a_slow_user_does_not_keep_others_waiting(tmp_path: Path) -> None:
    one = np.eye(1, DIM, dtype=np.float32)[0]
    with Store.open(tmp_path / "store.db") as store:
        for name in ("slow", "quick"):
            store.add([event(0, Scope(name))], one.reshape(1, -1), "h", now=NOW)
        index = Index("h")
        find(index, store, Lookup(Scope("slow"), 1, one), Lookup(Scope("quick"), 1, one))
        with store.snapshot() as snapshot:
            heads = snapshot.heads([("default", "slow")])
            with index._using(("default", "slow"), heads[("default", "slow")]):  # as if searching
                found: list[list[Hit]] = []
                thread = threading.Thread(
                    target=lambda: found.extend(find(index, store, Lookup(Scope("quick"), 1, one)))
                )
                thread.start()
                thread.join(10)
                assert [hit.id for hit in found[0]] == ["e0"]


def test_what_was_changed_behind_the_index_is_found_by_its_checksum_and_repaired(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    lookup = Lookup(ANN, 1, np.eye(1, DIM, dtype=np.float32)[0])
    index = Index("h")
    with Store.open(path) as store:
        store.add([event(0), event(1)], np.eye(2, DIM, dtype=np.float32), "h", now=NOW)
        assert ids(index, store, lookup) == ["e0"]
        with store.snapshot() as snapshot:
            assert index.verify(snapshot) == []
        raw = sqlite3.connect(path)
        swapped = np.eye(2, DIM, dtype=np.float32)[::-1]
        for number in range(2):
            raw.execute(
                "UPDATE vectors SET vector = ? WHERE event = ?",
                (swapped[number].tobytes(), f"e{number}"),
            )
        raw.commit()
        raw.close()
        with store.snapshot() as snapshot:
            assert index.verify(snapshot) == [("default", "ann")]
        assert ids(index, store, lookup) == ["e1"]
        with store.snapshot() as snapshot:
            assert index.verify(snapshot) == []


def test_what_another_process_wrote_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    index = Index("h")
    with Store.open(path) as store:
        store.add([event(0), event(1)], np.eye(2, DIM, dtype=np.float32), "h", now=NOW)
        lookup = Lookup(ANN, 5, np.eye(1, DIM, dtype=np.float32)[0])
        assert ids(index, store, lookup) == ["e0", "e1"]
        subprocess.run([sys.executable, "-c", OTHER_PROCESS, str(path)], check=True)
        assert ids(index, store, lookup) == ["theirs", "e1"]
        assert ids(index, store, replace(lookup, vector=None)) == ["e1", "theirs"]


def test_what_comes_late_takes_its_place_and_nothing_is_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As two servers write that store each other's users: neither is ahead for long."""

    def never(*_: object) -> None:
        raise AssertionError("the user was read anew")

    index = Index("h")
    vectors = unit(np.random.default_rng(4).standard_normal((40, DIM)).astype(np.float32))
    lookup = Lookup(ANN, 50, vectors[0])
    with Store.open(":memory:") as store:
        store.add([event(i) for i in range(20)], vectors[:20], "h", now=NOW)
        store.add([event(90)], now=NOW)  # it has no vector, and keeps none where it goes
        find(index, store, lookup)
        monkeypatch.setattr(FlatSearch, "filled", never)
        for number in range(20, 40):
            minutes = (7 * number) % 25
            store.add([event(number, minutes=minutes)], vectors[[number]], "h", now=NOW)
            assert find(index, store, lookup)[0] == nearest(store, lookup)
            assert ids(index, store, replace(lookup, vector=None)) == latest(store, lookup)
        monkeypatch.undo()
        with store.snapshot() as snapshot:
            assert index.verify(snapshot) == []


def test_a_user_who_was_forgotten_and_came_back_is_new() -> None:
    index = Index("h")
    with Store.open(":memory:") as store:
        for query in ("first life", "second life"):
            one = Interaction(ANN, NOW, query)
            store.add([one], np.eye(1, DIM, dtype=np.float32), "h", now=NOW)
            assert ids(index, store, Lookup(ANN, 5)) == [one.id]
            store.delete_all(ANN, NOW)
            assert ids(index, store, Lookup(ANN, 5)) == []


def test_an_event_deleted_and_added_again_takes_its_new_place() -> None:
    index = Index("h")
    with Store.open(":memory:") as store:
        store.add([event(0, minutes=0), event(1, minutes=0)], now=NOW)
        assert ids(index, store, Lookup(ANN, 5)) == ["e0", "e1"]
        store.delete(ANN, "e0", NOW)
        store.add([event(0, minutes=0)], now=NOW)
        assert ids(index, store, Lookup(ANN, 5)) == ["e1", "e0"]
        assert ids(index, store, Lookup(ANN, 5, None, "e0")) == ["e1"]


def test_events_without_a_vector_are_reported() -> None:
    index = Index("h")
    with Store.open(":memory:") as store:
        store.add([event(0)], np.eye(1, DIM, dtype=np.float32), "h", now=NOW)
        store.add([event(1), event(2)], now=NOW)
        lookup = Lookup(ANN, 5, np.eye(1, DIM, dtype=np.float32)[0])
        with store.snapshot() as snapshot:
            found = index.find(snapshot, [lookup])
        assert [hit.id for hit in found.hits[0]] == ["e0"]
        assert found.missing == {("default", "ann"): ["e1", "e2"]}


def test_a_snapshot_older_than_the_index_is_answered_as_of_the_snapshot(tmp_path: Path) -> None:
    index = Index("h")
    with Store.open(tmp_path / "store.db") as store:
        store.add([event(0)], now=NOW)
        with store.snapshot() as old:
            assert old.count(ANN) == 1
            store.add([event(1)], now=NOW)
            assert ids(index, store, Lookup(ANN, 5)) == ["e0", "e1"]
            assert [hit.id for hit in index.find(old, [Lookup(ANN, 5)]).hits[0]] == ["e0"]


def test_an_unknown_before_is_a_clear_error() -> None:
    with Store.open(":memory:") as store:
        store.add([event(0)], now=NOW)
        for scope in (ANN, Scope("nobody")):
            with pytest.raises(UnknownInteraction, match="no interaction 'x'"):
                find(Index("h"), store, Lookup(scope, 1, None, "x"))


def test_vectors_of_another_length_are_a_clear_error() -> None:
    with Store.open(":memory:") as store:
        store.add([event(0)], np.eye(1, DIM, dtype=np.float32), "h", now=NOW)
        with pytest.raises(StoreError, match="7 dimensions"):
            find(Index("h"), store, Lookup(ANN, 1, np.ones(7, np.float32)))
        store.add([event(1)], np.eye(1, 3, dtype=np.float32), "h", now=NOW)
        with pytest.raises(StoreError, match=r"\[3, 4\] dimensions"):
            find(Index("h"), store, Lookup(ANN, 1, np.ones(DIM, np.float32)))


def test_a_count_that_disagrees_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.add([event(0), event(1)], now=NOW)
        raw = sqlite3.connect(path)
        raw.execute("DELETE FROM events WHERE id = 'e0'")
        raw.commit()
        raw.close()
        with pytest.raises(StoreError, match="1 events, but 2 are counted"):
            find(Index("h"), store, Lookup(ANN, 1))


@pytest.mark.parametrize("count", [127, 128, 129, 600])
def test_large_users_with_ties_equal_brute_force(count: int) -> None:
    rng = np.random.default_rng(count)
    rows = unit(rng.standard_normal((40, DIM)).astype(np.float32))[rng.integers(0, 40, count)]
    with Store.open(":memory:") as store:
        store.add([event(i) for i in range(count)], rows, "h", now=NOW)
        index = Index("h")
        for k in (1, 7, 50, 700):
            for before in (None, f"e{count - 1}", "e64"):
                lookup = Lookup(ANN, k, rows[3], before)
                assert find(index, store, lookup)[0] == nearest(store, lookup)

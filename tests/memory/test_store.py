"""The contract of the store, over a file and in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.errors import StoreError
from persona_agent.memory.store import PersonaConflict, Store, UnknownInteraction
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
BOB = Scope("bob")

ODD_IDS = [
    "o'neil",
    'say "hi"',
    "../../etc/passwd",
    "a/b",
    "line\nbreak\ttab\x01\x7f",
    "😀",
    "é",
    "e\u0301",
    "User",
    "user",
    "USER",
    "%",
    "_",
    " ",
    "user ",
    "; DROP TABLE events; --",
    ":v0",
    "İ",
    "ß",
    "SS",
]


def event(i: int, scope: Scope = ANN, **given: object) -> Interaction:
    fields: dict[str, object] = {"when": NOW + timedelta(seconds=i), "query": f"query {i}"}
    fields |= {"id": f"e{i}"} | given
    return Interaction(scope, **fields)  # type: ignore[arg-type]  # named above


def events(count: int, scope: Scope = ANN) -> list[Interaction]:
    return [event(i, scope) for i in range(count)]


def test_what_is_added_comes_back_whole(store: Store) -> None:
    one = Interaction(
        Scope("ann", "shop", "helper", "run 1"),
        datetime(2020, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        "which film?",
        outcome="4",
        response="",
        role="tool",
        item="i\u00e9\U0001f600",
        options=("a", "b|c", ""),
        metadata={"a": [1, 2.5, None, True, {"b": "\x00\ud800"}]},
        id="x",
    )
    assert [a.event for a in store.add([one], now=NOW)] == ["ADD"]
    assert store.get(Scope("ann", "shop"), "x") == one


def test_an_empty_batch_adds_nothing(store: Store) -> None:
    assert store.add([], now=NOW) == []
    assert store.users() == []


def test_adding_twice_skips_as_duplicate(store: Store) -> None:
    store.add(events(3), now=NOW)
    again = store.add(events(3), now=NOW)
    assert [(a.id, a.event, a.reason) for a in again] == [
        (f"e{i}", "SKIP", f"duplicate of e{i}") for i in range(3)
    ]
    assert store.count(ANN) == 3


def test_an_id_with_other_content_is_skipped_and_nothing_is_lost(store: Store) -> None:
    store.add([event(0, outcome="4")], now=NOW)
    (added,) = store.add([event(0, outcome="5", query="other")], now=NOW)
    assert added.event == "SKIP"
    assert "query, outcome" in added.reason
    assert "update" in added.reason
    assert store.get(ANN, "e0").outcome == "4"


def test_an_outcome_that_arrives_later_is_an_update(store: Store) -> None:
    store.add([event(0, response="shown")], now=NOW)
    (added,) = store.add([event(0, outcome="5")], now=NOW)
    assert (added.event, added.reason) == ("UPDATE", "outcome arrived")
    assert store.get(ANN, "e0") == event(0, response="shown", outcome="5")
    (again,) = store.add([event(0)], now=NOW)
    assert (again.event, store.get(ANN, "e0").outcome) == ("SKIP", "5")


def test_the_same_id_twice_in_one_batch(store: Store) -> None:
    added = store.add(
        [event(0), event(0), event(0, outcome="3"), event(0, outcome="4"), event(1)], now=NOW
    )
    assert [a.event for a in added] == ["ADD", "SKIP", "UPDATE", "SKIP", "ADD"]
    assert store.get(ANN, "e0").outcome == "3"
    assert store.count(ANN) == 2
    assert [c.action for c in store.history(ANN, "e0")] == ["ADD", "UPDATE"]


def test_metadata_that_is_not_json_is_refused_and_nothing_is_stored(store: Store) -> None:
    bad = [event(0), event(1, metadata={"a": object()})]
    with pytest.raises(TypeError, match="metadata of interaction 'e1'"):
        store.add(bad, now=NOW)
    with pytest.raises(ValueError, match="metadata of interaction 'e1'"):
        store.add([event(1, metadata={"a": float("nan")})], now=NOW)
    with pytest.raises(ValueError, match="time zone"):
        store.add([event(1)], now=datetime(2026, 1, 1))
    assert store.users() == []


def test_wrong_vectors_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 4\).*\(1, dim\)"):
        store.add([event(0)], np.zeros((2, 4), np.float32), "h", now=NOW)
    with pytest.raises(ValueError, match="finite"):
        store.add([event(0)], np.full((1, 4), np.nan, np.float32), "h", now=NOW)
    with pytest.raises(ValueError, match="embedder"):
        store.add([event(0)], np.zeros((1, 4), np.float32), now=NOW)
    assert store.count(ANN) == 0


def test_order_is_time_then_order_of_adding(store: Store) -> None:
    same = [event(i, when=NOW) for i in (3, 1, 2)]
    store.add(same, now=NOW)
    store.add([event(0, when=NOW - timedelta(days=1)), event(9, when=NOW)], now=NOW)
    assert [one.id for one in store.get_all(ANN)] == ["e0", "e3", "e1", "e2", "e9"]
    assert [one.id for one in store.get_all(ANN, limit=2, offset=1)] == ["e3", "e1"]
    assert [one.id for one in store.get_all(ANN, offset=3)] == ["e2", "e9"]
    assert [one.id for one in store.get_all(ANN, before="e2")] == ["e0", "e3", "e1"]
    assert [one.id for one in store.recent(ANN, 2, before="e2")] == ["e3", "e1"]
    assert [one.id for one in store.recent(ANN, 2)] == ["e2", "e9"]
    assert store.recent(ANN, 0) == []


def test_agent_and_run_narrow_reads(store: Store) -> None:
    store.add(
        [
            event(0, Scope("ann", agent="a", run="r")),
            event(1, Scope("ann", agent="a")),
            event(2, Scope("ann", agent="b", run="r")),
        ],
        now=NOW,
    )
    assert [one.id for one in store.get_all(Scope("ann", agent="a"))] == ["e0", "e1"]
    assert [one.id for one in store.get_all(Scope("ann", run="r"))] == ["e0", "e2"]
    assert store.count(Scope("ann", agent="a", run="r")) == 1
    with pytest.raises(UnknownInteraction):
        store.get(Scope("ann", agent="b"), "e0")
    assert store.delete_all(Scope("ann", agent="a"), NOW) == 2
    assert [one.id for one in store.get_all(ANN)] == ["e2"]


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get(ANN, "e0"),
        lambda store: store.history(ANN, "e0"),
        lambda store: store.delete(ANN, "e0", NOW),
        lambda store: store.update(ANN, "e0", outcome="5", now=NOW),
        lambda store: store.get_all(ANN, before="e0"),
    ],
    ids=["get", "history", "delete", "update", "before"],
)
def test_an_unknown_id_is_a_clear_error(store: Store, call: Callable[[Store], object]) -> None:
    store.add([event(0, BOB)], now=NOW)
    with pytest.raises(UnknownInteraction, match=r"no interaction 'e0' .* user 'ann'"):
        call(store)
    assert store.get(BOB, "e0") == event(0, BOB)


def test_update_changes_logs_and_drops_the_stale_vector(store: Store) -> None:
    store.add([event(0)], np.eye(1, 4, dtype=np.float32), "h", now=NOW)
    changed = store.update(ANN, "e0", outcome="5", metadata={"a": 1}, now=NOW + timedelta(1))
    assert changed == store.get(ANN, "e0") == event(0, outcome="5", metadata={"a": 1})
    assert store.vectors(ANN, "h")[0] == []
    store.update(ANN, "e0", query="new", vector=np.ones(4, np.float32), embedder="h", now=NOW)
    assert store.vectors(ANN, "h")[1].tolist() == [[1, 1, 1, 1]]
    history = store.history(ANN, "e0")
    assert [(c.action, c.old, c.new) for c in history] == [
        ("ADD", None, event(0)),
        ("UPDATE", event(0), changed),
        ("UPDATE", changed, replace(changed, query="new")),
    ]
    assert history[1].at == NOW + timedelta(1)
    with pytest.raises(ValueError, match="nothing to change"):
        store.update(ANN, "e0", now=NOW)


def test_delete_leaves_the_time_but_not_the_content(store: Store) -> None:
    store.add(events(2), np.eye(2, 4, dtype=np.float32), "h", now=NOW)
    store.update(ANN, "e0", outcome="secret", now=NOW)
    store.update(ANN, "e0", outcome="other", now=NOW)
    store.delete(ANN, "e0", NOW + timedelta(1))
    history = store.history(ANN, "e0")
    assert [c.action for c in history] == ["ADD", "UPDATE", "UPDATE", "DELETE"]
    assert all(c.old is None and c.new is None for c in history)
    assert store.vectors(ANN, "h")[0] == ["e1"]
    assert store.count(ANN) == len(store.get_all(ANN)) == 1
    assert store.add([event(0)], now=NOW)[0].event == "ADD"
    assert store.history(ANN, "e0")[-1].new == event(0)


def test_delete_all_leaves_nothing_of_the_user_and_all_of_others(store: Store) -> None:
    for scope in (ANN, BOB, Scope("ann", "other tenant")):
        store.add(events(2, scope), np.eye(2, 4, dtype=np.float32), "h", now=NOW)
        store.add_persona(scope, 1, "{}", NOW)
        store.save_alignment(scope, "a", "state", NOW)
    assert store.delete_all(ANN, NOW) == 2
    assert store.delete_all(ANN, NOW) == 0
    assert store.users() == ["bob"]
    assert (store.get_all(ANN), store.personas(ANN), store.alignments(ANN)) == ([], [], [])
    with pytest.raises(UnknownInteraction):
        store.history(ANN, "e0")
    for scope in (BOB, Scope("ann", "other tenant")):
        assert len(store.get_all(scope)) == 2
        assert store.persona(scope) is not None
        assert store.load_alignment(scope, "a") == "state"


def test_deleted_text_is_not_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.add([event(0, query="a canary sings"), event(1, BOB)], now=NOW)
        store.update(ANN, "e0", query="another canary sings", now=NOW)
        store.delete_all(ANN, NOW)
        for file in tmp_path.iterdir():
            assert b"canary" not in file.read_bytes()


def test_vectors_come_in_time_order_and_only_of_the_embedder(store: Store) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    store.add([event(2), event(0), event(1)], rows, "h", now=NOW)
    store.add([event(3)], np.ones((1, 2), np.float32), "other", now=NOW)
    ids, array = store.vectors(ANN, "h")
    assert ids == ["e0", "e1", "e2"]
    assert array.tolist() == rows[[1, 2, 0]].tolist()
    assert store.vectors(BOB, "h")[0] == []


def test_vectors_of_changed_or_deleted_events_are_not_put(store: Store) -> None:
    store.add(events(3), now=NOW)
    store.update(ANN, "e0", query="changed", now=NOW)
    store.delete(ANN, "e1", NOW)
    assert store.put_vectors(ANN, events(3), np.ones((3, 4), np.float32), "h") == 1
    assert store.vectors(ANN, "h")[0] == ["e2"]
    assert [c.action for c in store.history(ANN, "e2")] == ["ADD"]


def test_persona_versions_follow_each_other(store: Store) -> None:
    assert store.persona(ANN) is None
    store.add_persona(ANN, 1, '{"a": 1}', NOW, origin="start")
    stored = store.add_persona(ANN, 2, "{}", NOW, parent=1, note="n", scores='{"mae": 1}')
    assert store.persona(ANN) == stored
    assert [p.version for p in store.personas(ANN)] == [2, 1]
    first = store.persona(ANN, 1)
    assert first is not None
    assert (first.document, first.origin, first.parent) == ('{"a": 1}', "start", None)
    for version in (1, 2, 4):
        with pytest.raises(PersonaConflict, match="next must be 3"):
            store.add_persona(ANN, version, "{}", NOW)
    assert store.persona(BOB) is None


def test_alignments_are_kept_by_key(store: Store) -> None:
    assert store.load_alignment(ANN, "k") is None
    store.save_alignment(ANN, "k", "one", NOW)
    store.save_alignment(ANN, "k", "two", NOW)
    store.save_alignment(BOB, "k", "his", NOW)
    assert store.load_alignment(ANN, "k") == "two"
    assert store.alignments(ANN) == ["k"]
    assert store.delete_alignment(ANN, "k")
    assert not store.delete_alignment(ANN, "k")
    assert store.load_alignment(BOB, "k") == "his"


def test_odd_ids_are_all_different_users(store: Store) -> None:
    scopes = [Scope(user, tenant) for user in ODD_IDS for tenant in ODD_IDS]
    store.add([event(0, scope, query=repr(scope), id=scope.user) for scope in scopes], now=NOW)
    for scope in scopes:
        assert [one.query for one in store.get_all(scope)] == [repr(scope)]
    assert store.users("o'neil") == sorted(ODD_IDS)
    store.delete_all(scopes[0], NOW)
    assert all(store.count(scope) == 1 for scope in scopes[1:])


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT.filter(bool), TEXT, st.none() | TEXT), max_size=8))
def test_adding_is_idempotent(given: list[tuple[str, str, str | None]]) -> None:
    batch = [
        Interaction(Scope(user), NOW, query, outcome, item="film") for user, query, outcome in given
        if query or outcome
    ]  # fmt: skip
    with Store.open(":memory:") as store:
        first = store.add(batch, now=NOW)
        before = {one.scope: store.get_all(one.scope) for one in batch}
        again = store.add(batch, now=NOW)
        assert {a.event for a in again} <= {"SKIP"}
        assert {one.scope: store.get_all(one.scope) for one in batch} == before
        distinct = {(one.scope, one.id) for one in batch}
        assert sum(a.event == "ADD" for a in first) == len(distinct)
        assert sum(map(len, before.values())) == len(distinct)


def test_threads_lose_nothing_and_store_nothing_twice(store: Store) -> None:
    problems: list[Exception] = []

    def work(number: int) -> None:
        try:
            for i in range(15):
                store.add([event(1000 * number + i), event(i)], now=NOW)
                store.get_all(ANN, limit=3)
        except (StoreError, ValueError) as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert store.count(ANN) == len(store.get_all(ANN)) == 4 * 15 + 15


def test_only_one_of_many_threads_wins_a_persona_version(store: Store) -> None:
    won: list[int] = []

    def work(number: int) -> None:
        try:
            store.add_persona(ANN, 1, str(number), NOW)
            won.append(number)
        except PersonaConflict:
            pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(store.personas(ANN)) == 1


def test_options_given_as_one_text_are_refused() -> None:
    wrong: Any = "yes"  # Any: what a caller without a type checker may pass
    with pytest.raises(TypeError, match="options is the text 'yes'"):
        event(0, options=wrong)

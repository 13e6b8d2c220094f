"""One request of a warm user asks the store once, and is answered as if all had been read anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from persona_agent.errors import StoreError
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.fact_reading import read_facts
from persona_agent.memory.fact_rows import write_merge
from persona_agent.memory.facts import FactDraft, merge
from persona_agent.memory.lookup import Hit, Lookup
from persona_agent.memory.snapshot import Head
from persona_agent.memory.store import Store
from persona_agent.memory.user_index import EVENT_BYTES
from persona_agent.types import (
    Interaction,
    RecallKind,
    RecallMode,
    RecallReply,
    RecallRequest,
    Scope,
)

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
WORDS = ("tea", "films", "bread", "trains", "rain")
STEPS = ("add", "add", "add", "update", "delete", "believe", "forget")
MODES: tuple[RecallMode, ...] = ("recent", "similar", "hybrid")
KINDS: tuple[tuple[RecallKind, ...], ...] = (("event",), ("event", "fact"), ("fact",))


def event(number: int, word: int) -> Interaction:
    when = NOW + timedelta(minutes=number)
    return Interaction(ANN, when, f"{WORDS[word]} and {WORDS[number % 5]}", id=f"e{number}")


def write(memory: EpisodicMemory, action: str, number: int, word: int) -> None:
    """Do one thing to the store, if it can be done."""
    store, one = memory.store, event(number, word)
    known = {e.id: e for e in store.get_all(ANN)}
    if action == "add":
        memory.add([one], NOW)
    elif action == "forget" and word == 0:
        memory.delete_all(ANN, NOW)
    elif one.id in known and action == "update":
        memory.update(ANN, one.id, {"query": f"{WORDS[word]} again"}, NOW)
    elif one.id in known and action == "delete":
        memory.delete(ANN, one.id, NOW)
    elif one.id in known and action == "believe":
        draft = FactDraft("preference", f"Likes {WORDS[word]}", (one.id,), 1.0)
        with store.database.write() as connection:
            found = merge(read_facts(connection, ("default", "ann")), [draft], known)
            write_merge(connection, ("default", "ann"), found, NOW)


def ask(memory: EpisodicMemory, request: RecallRequest) -> RecallReply:
    (reply,) = memory.recall([request])
    return reply


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 8), st.integers(0, 4)), max_size=25),
    st.lists(
        st.tuples(st.sampled_from(MODES), st.integers(0, 4), st.sampled_from(KINDS)), min_size=1
    ),
)
def test_a_warm_memory_answers_as_a_new_one_whatever_another_writes(
    steps: list[tuple[str, int, int]], asked: list[tuple[RecallMode, int, tuple[RecallKind, ...]]]
) -> None:
    with Store.open(":memory:") as store:
        writer = EpisodicMemory(store, HashEmbedder(32))
        warm = EpisodicMemory(store, HashEmbedder(32))
        for place, step in enumerate(steps):
            write(writer, *step)
            mode, word, kinds = asked[place % len(asked)]
            request = RecallRequest(
                ANN, mode, WORDS[word], k=3, kinds=("event",) if mode == "recent" else kinds
            )
            fresh = EpisodicMemory(store, HashEmbedder(32))
            expected = ask(fresh, request)
            assert ask(warm, request) == expected  # may have to follow
            assert ask(warm, request) == expected  # need not


@contextmanager
def no_transaction() -> Iterator[Connection]:
    raise StoreError("nobody should begin a transaction")
    yield


@pytest.mark.parametrize("mode", MODES)
def test_a_warm_user_is_answered_by_one_statement(
    store: Store, monkeypatch: pytest.MonkeyPatch, mode: RecallMode
) -> None:
    memory = EpisodicMemory(store, HashEmbedder(32))
    memory.add([event(i, i % 5) for i in range(10)], NOW)
    request = RecallRequest(ANN, mode, "tea and rain", k=4)
    expected = ask(memory, request)
    with monkeypatch.context() as patch:
        patch.setattr(store.database, "read", no_transaction)
        assert ask(memory, request) == expected
        assert len(expected.memories) == 4
    memory.add([event(11, 0)], NOW)
    monkeypatch.setattr(store.database, "read", no_transaction)
    with pytest.raises(StoreError, match="nobody"):  # what was written since must be followed
        ask(memory, request)


def test_several_requests_of_a_user_who_was_kept_up_are_answered_by_one_statement(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = EpisodicMemory(store, HashEmbedder(32))
    memory.add([event(i, i % 5) for i in range(10)], NOW)
    requests = [RecallRequest(ANN, mode, "tea and rain", k=4) for mode in MODES]
    memory.recall(requests)
    memory.add([event(11, 0)], NOW)
    memory.update(ANN, "e4", {"query": "tea and rain and tea"}, NOW)
    memory.keep_up([ANN, Scope("bob")])
    assert len(memory.index) == 1  # nobody is taken in who did not ask
    fresh = EpisodicMemory(store, HashEmbedder(32)).recall(requests)
    memory.recall(requests)  # embeds what was changed
    memory.keep_up([ANN])
    monkeypatch.setattr(store.database, "read", no_transaction)
    assert memory.recall(requests) == fresh


@pytest.mark.parametrize("searched", [False, True])
def test_keeping_up_reads_nothing_that_nobody_asked_for(store: Store, searched: bool) -> None:
    memory = EpisodicMemory(store, HashEmbedder(32))
    memory.add([event(0, 0)], NOW)
    ask(memory, RecallRequest(ANN, "similar" if searched else "recent", "tea"))
    memory.add([event(1, 0)], NOW)
    memory.keep_up([ANN])
    without_vectors = 1000 + 2 * EVENT_BYTES
    assert (memory.index.nbytes > without_vectors) == searched


def test_what_is_deleted_while_it_is_searched_is_not_returned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = EpisodicMemory(store, HashEmbedder(32))
    memory.add([event(i, 0) for i in range(6)], NOW)
    request = RecallRequest(ANN, "similar", "tea", k=6)
    assert len(ask(memory, request).memories) == 6
    guess = memory.index.guess

    def late(lookup: Lookup) -> tuple[Head, list[Hit]] | None:
        found = guess(lookup)
        store.delete(ANN, "e3", NOW)
        return found

    monkeypatch.setattr(memory.index, "guess", late)
    ids = {one.interaction.id for one in ask(memory, request).memories}
    assert ids == {"e0", "e1", "e2", "e4", "e5"}


def test_a_user_all_of_whose_memories_were_deleted_is_searched_in_every_way(store: Store) -> None:
    memory = EpisodicMemory(store, HashEmbedder(32))
    memory.add([event(0, 0)], NOW)
    store.delete(ANN, "e0", NOW)
    for _ in range(2):
        for mode in MODES:
            weighed = mode != "recent"
            assert ask(memory, RecallRequest(ANN, "similar", "tea")) == RecallReply()
            request = RecallRequest(ANN, mode, "tea", salience=weighed)
            assert ask(memory, request) == RecallReply()
        memory.index.clear()


def test_a_user_who_was_forgotten_by_another_is_gone(store: Store) -> None:
    memory = EpisodicMemory(store, HashEmbedder(32))
    memory.add([event(i, 0) for i in range(3)], NOW)
    request = RecallRequest(ANN, "similar", "tea")
    assert ask(memory, request).memories
    EpisodicMemory(store, HashEmbedder(32)).delete_all(ANN, NOW)
    assert ask(memory, request) == RecallReply()

"""Recall: nothing leaks, nobody starves, no budget is exceeded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory, estimate_tokens
from persona_agent.memory.index import Index
from persona_agent.memory.store import Store
from persona_agent.ports import Memory
from persona_agent.types import (
    FloatArray,
    Interaction,
    RecallMode,
    RecallReply,
    RecallRequest,
    Scope,
)

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
MODES: tuple[RecallMode, ...] = ("recent", "similar", "hybrid")


class CountingEmbedder(HashEmbedder):
    """Counts its calls."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__(dim)
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> FloatArray:
        self.calls.append(list(texts))
        return super().embed(texts)


@pytest.fixture
def memory() -> Iterator[EpisodicMemory]:
    """Give an empty memory with an embedder that counts."""
    with Store.open(":memory:") as store:
        yield EpisodicMemory(store, CountingEmbedder())


def event(number: int, query: str, scope: Scope = ANN) -> Interaction:
    return Interaction(scope, NOW + timedelta(minutes=number), query, id=f"e{number}")


def texts(reply: RecallReply) -> list[str]:
    return [hit.interaction.query for hit in reply.memories]


def test_it_is_a_memory(memory: EpisodicMemory) -> None:
    port: Memory = memory
    assert port.recall([]) == []


def test_recent_gives_the_latest_oldest_first(memory: EpisodicMemory) -> None:
    memory.add([event(i, f"q{i}") for i in (3, 1, 2, 0)], NOW)
    (reply,) = memory.recall([RecallRequest(ANN, k=3)])
    assert texts(reply) == ["q1", "q2", "q3"]
    assert [hit.score for hit in reply.memories] == [1 / 3, 1 / 2, 1]
    (reply,) = memory.recall([RecallRequest(ANN, k=2, before="e2")])
    assert texts(reply) == ["q0", "q1"]


def test_similar_gives_the_best_first(memory: EpisodicMemory) -> None:
    memory.add([event(0, "comedy film"), event(1, "tax form"), event(2, "funny comedy film")], NOW)
    (reply,) = memory.recall([RecallRequest(ANN, "similar", "funny comedy film", k=2)])
    assert texts(reply) == ["funny comedy film", "comedy film"]
    assert reply.memories[0].score == pytest.approx(1)
    assert reply.memories[0].mode == "similar"


def test_an_unknown_user_has_no_memories(memory: EpisodicMemory) -> None:
    asked = [RecallRequest(Scope("nobody"), mode, "x") for mode in MODES]
    assert memory.recall(asked) == [RecallReply()] * len(MODES)


def test_an_empty_query_is_similar_to_nothing_and_k_zero_is_nothing(memory: EpisodicMemory) -> None:
    memory.add([event(0, "q")], NOW)
    asked = [RecallRequest(ANN, "similar", ""), *(RecallRequest(ANN, m, "q", k=0) for m in MODES)]
    assert memory.recall(asked) == [RecallReply()] * (1 + len(MODES))


def test_an_unknown_before_fails_its_own_request_only(memory: EpisodicMemory) -> None:
    memory.add([event(0, "q")], NOW)
    for mode in MODES:
        good = RecallRequest(ANN, mode, "q")
        bad = RecallRequest(ANN, mode, "q", before="x")
        first, failed, last = memory.recall([good, bad, good])
        assert "no interaction 'x'" in str(failed.error)
        assert failed.memories == ()
        assert texts(first) == texts(last) == ["q"]


def test_all_queries_of_a_batch_are_embedded_in_one_call(memory: EpisodicMemory) -> None:
    embedder = memory.embedder
    assert isinstance(embedder, CountingEmbedder)
    memory.add([event(i, f"q{i}", Scope(f"u{i}")) for i in range(5)], NOW)
    embedder.calls = embedder.calls[1:]  # the first is for the fingerprint
    assert len(embedder.calls) == 1
    memory.recall([RecallRequest(Scope(f"u{i % 5}"), MODES[i % 2], f"q{i}") for i in range(10)])
    assert embedder.calls[1:] == [["q1", "q3", "q5", "q7", "q9"]]
    memory.recall([RecallRequest(Scope("u1"))])
    assert len(embedder.calls) == 2


def test_what_has_no_vector_is_embedded_before_it_is_searched(memory: EpisodicMemory) -> None:
    memory.store.add([event(0, "comedy film")], now=NOW)  # by a writer without an embedder
    memory.add([event(1, "tax form"), event(2, "old words")], NOW)
    memory.update(ANN, "e2", {"query": "comedy film again"}, NOW)
    (reply,) = memory.recall([RecallRequest(ANN, "similar", "comedy film", k=2)])
    assert texts(reply) == ["comedy film", "comedy film again"]


def test_feedback_that_arrives_later_is_searched_with_the_whole_text(
    memory: EpisodicMemory,
) -> None:
    asked = Interaction(ANN, NOW, "which?", response="a comedy film", id="e")
    memory.add([asked], NOW)
    memory.add([Interaction(ANN, NOW, "which?", outcome="loved", id="e")], NOW)
    (reply,) = memory.recall([RecallRequest(ANN, "similar", "which?\na comedy film\nloved", k=1)])
    assert reply.memories[0].score == pytest.approx(1)


def test_update_delete_and_delete_all_show_at_once(memory: EpisodicMemory) -> None:
    memory.add([event(i, f"q{i}") for i in range(3)], NOW)
    asked = [RecallRequest(ANN, mode, "q1") for mode in MODES]
    assert [len(reply.memories) for reply in memory.recall(asked)] == [3, 3, 3]
    memory.update(ANN, "e1", {"outcome": "5"}, NOW)
    memory.delete(ANN, "e0", NOW)
    recent, similar, hybrid = memory.recall(asked)
    assert texts(recent) == ["q1", "q2"]
    assert similar.memories[0].interaction.outcome == "5"
    assert hybrid.memories[0].interaction.outcome == "5"
    with pytest.raises(ValueError, match="cannot change when"):
        memory.update(ANN, "e1", {"when": NOW}, NOW)
    memory.delete_all(ANN, NOW)
    assert memory.recall(asked) == [RecallReply()] * len(MODES)


WORDS = st.lists(st.sampled_from("film comedy tax form the a loved hated".split()), max_size=5)
MINUTE = st.integers(0, 6)  # few, so that equal times are common


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(MINUTE, WORDS), min_size=1, max_size=20),
    st.integers(0, 19),
    st.integers(1, 30),
    WORDS,
)
def test_nothing_at_or_after_the_simulated_event_is_ever_recalled(
    happened: list[tuple[int, list[str]]], choice: int, k: int, asked: list[str]
) -> None:
    events = [
        Interaction(
            ANN, NOW + timedelta(minutes=minute), " ".join(["q", *words]), outcome=f"canary{i}"
        )
        for i, (minute, words) in enumerate(happened)
    ]
    with Store.open(":memory:") as store:
        memory = EpisodicMemory(store, HashEmbedder(32))
        memory.recall([RecallRequest(ANN, mode, "q") for mode in MODES])
        for start in range(0, len(events), 3):  # the index follows along
            memory.add(events[start : start + 3], NOW)
            memory.recall([RecallRequest(ANN, "similar", "q")])
        simulated = events[choice % len(events)]
        order = sorted(range(len(events)), key=lambda i: (events[i].when, i))
        earlier = order[: order.index(events.index(simulated))]
        allowed = {f"canary{i}" for i in earlier}
        query = " ".join(["q", *asked])
        for mode in MODES:
            request = RecallRequest(ANN, mode, query, k, 100_000, simulated.id)
            (reply,) = memory.recall([request])
            outcomes = [hit.interaction.outcome for hit in reply.memories]
            assert set(outcomes) <= allowed
            assert len(outcomes) == min(k, len(allowed))  # nor is anybody starved


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), MINUTE, WORDS), max_size=25),
    st.lists(
        st.tuples(
            st.integers(0, 4), st.sampled_from(MODES), WORDS, st.integers(0, 9), st.integers(0, 60)
        ),
        max_size=10,
    ),
)
def test_a_batch_equals_its_singles_and_no_budget_is_exceeded(
    happened: list[tuple[int, int, list[str]]],
    asked: list[tuple[int, RecallMode, list[str], int, int]],
) -> None:
    events = [
        Interaction(Scope(f"u{user}"), NOW + timedelta(minutes=minute), " ".join(words), str(i))
        for i, (user, minute, words) in enumerate(happened)
    ]
    requests = [
        RecallRequest(Scope(f"u{user}"), mode, " ".join(words), k, budget)
        for user, mode, words, k, budget in asked
    ]
    with Store.open(":memory:") as store:
        memory = EpisodicMemory(store, HashEmbedder(32), Index("hash-32", max_bytes=5000))
        memory.add(events, NOW)
        together = memory.recall(requests)
        assert together == [memory.recall([request])[0] for request in requests]
        for request, reply in zip(requests, together, strict=True):
            used = sum(estimate_tokens(hit.interaction.text) for hit in reply.memories)
            assert used <= request.max_tokens
            assert len(reply.memories) <= request.k
            assert {hit.interaction.scope for hit in reply.memories} <= {request.scope}


PIECES = ["'", '"', "/", "\\", "\x01", "\n", " ", "é", "e", "\u0301", "E", "😀", "%", ":v1"]
ODD = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(Scope, ODD, ODD), min_size=1, max_size=12, unique=True))
def test_users_with_odd_ids_see_all_their_own_and_nothing_else(scopes: list[Scope]) -> None:
    with Store.open(":memory:") as store:
        memory = EpisodicMemory(store, HashEmbedder(16))
        memory.add([event(i, f"film {i}", scope) for scope in scopes for i in range(3)], NOW)
        requests = [RecallRequest(scope, mode, "film 1") for scope in scopes for mode in MODES]
        for request, reply in zip(requests, memory.recall(requests), strict=True):
            assert {hit.interaction.scope for hit in reply.memories} == {request.scope}
            assert len(reply.memories) == 3


def test_the_budget_keeps_the_latest_or_the_best(memory: EpisodicMemory) -> None:
    memory.add([event(0, "film a"), event(1, "film " * 50), event(2, "film b")], NOW)
    size = estimate_tokens("film a")
    recent, similar, tight = memory.recall(
        [
            RecallRequest(ANN, max_tokens=2 * size),
            RecallRequest(ANN, "similar", "film b", max_tokens=size),
            RecallRequest(ANN, max_tokens=size),
        ]
    )
    assert texts(recent) == ["film a", "film b"]
    assert texts(similar) == texts(tight) == ["film b"]


def test_threads_add_and_recall_together(tmp_path: Path) -> None:
    problems: list[BaseException] = []
    with Store.open(tmp_path / "store.db") as store:
        memory = EpisodicMemory(store, HashEmbedder(32), Index("hash-32", max_bytes=20_000))

        def work(user: int) -> None:
            scope = Scope(f"u{user % 3}")
            try:
                for i in range(12):
                    one = event(100 * user + i, f"film {i}", scope)
                    memory.add([one], NOW)
                    for reply in memory.recall(
                        [RecallRequest(scope, mode, one.query, k=99) for mode in MODES]
                    ):
                        assert one.id in {hit.interaction.id for hit in reply.memories}
                        assert {hit.interaction.scope for hit in reply.memories} == {scope}
            except BaseException as error:  # noqa: BLE001 - told to the test's own thread
                problems.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("abc", 1), ("abcd", 2), ("2026", 4), ("映画", 2), ("😀", 3), ("a 1", 2)],
)
def test_estimate_of_tokens(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens

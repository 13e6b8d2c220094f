"""Recall by words and meaning: fused, cut at a moment, weighed, explained, reranked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.errors import BackendError
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.flat import FlatSearch
from persona_agent.memory.lexicon import Lexicon, words_of
from persona_agent.memory.ranking import WORDS, fuse
from persona_agent.memory.search import View, search
from persona_agent.memory.store import Store
from persona_agent.predict import RecallPlan
from persona_agent.types import Interaction, Recalled, RecallMode, RecallRequest, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
DAY = timedelta(days=1)
BOTH: tuple[RecallMode, ...] = ("similar", "hybrid")
VOCABULARY = "film comedy tax form the loved hated sad".split()
TEXT = st.lists(st.sampled_from(VOCABULARY), max_size=6).map(" ".join)


@pytest.fixture
def memory() -> Iterator[EpisodicMemory]:
    """Give an empty memory."""
    with Store.open(":memory:") as store:
        yield EpisodicMemory(store, HashEmbedder(64))


def event(number: int, query: str, day: int = 0, **fields: Any) -> Interaction:
    return Interaction(ANN, NOW + day * DAY, query, id=f"e{number}", **fields)


def ask(
    memory: EpisodicMemory, query: str, mode: RecallMode = "hybrid", **wanted: Any
) -> list[str]:
    return [one.interaction.id for one in hits(memory, query, mode, **wanted)]


def hits(
    memory: EpisodicMemory, query: str, mode: RecallMode = "hybrid", **wanted: Any
) -> Sequence[Recalled]:
    request = RecallRequest(ANN, mode, query, max_tokens=100_000, **wanted)
    return memory.recall([request])[0].memories


def naive_bm25(texts: Sequence[str], query: str) -> list[float]:
    """Return the textbook formula, the long way."""
    split = [re.findall(r"\w+", text.casefold()) for text in texts]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for words in split:
        score = 0.0
        for word in sorted(set(query.split())):
            having = sum(word in other for other in split)
            rarity = math.log(1 + (len(split) - having + 0.5) / (having + 0.5))
            times = words.count(word)
            if times:
                held = 1.2 * (1 - 0.75 + 0.75 * len(words) / mean)
                score += rarity * times * 2.2 / (times + held)
        scores.append(round(score, 6))
    return scores


@given(st.lists(TEXT, min_size=1, max_size=12), TEXT)
def test_bm25_is_the_textbook_formula(texts: list[str], query: str) -> None:
    lexicon = Lexicon()
    for text in texts:
        lexicon.add(text)
    if any(text for text in texts):
        assert lexicon.scores(words_of(query), len(texts), None).tolist() == pytest.approx(
            naive_bm25(texts, query), abs=2e-6
        )


def test_a_rare_word_brings_up_what_meaning_alone_does_not(memory: EpisodicMemory) -> None:
    memory.add([event(i, f"a note about things of day {i}") for i in range(60)], NOW)
    memory.add([event(99, "the boiler has serial XK42, bought long ago in town")], NOW)
    question = "a note about things of the day: XK42"
    by_meaning, fused = (ask(memory, question, mode, k=61).index("e99") for mode in BOTH)
    assert fused < by_meaning
    (found,) = [
        one for one in hits(memory, question, k=61, explain=True) if one.interaction.id == "e99"
    ]
    assert found.explanation is not None
    assert found.explanation.bm25_rank == 1


@given(st.lists(TEXT, min_size=1, max_size=12), TEXT)
def test_a_share_is_what_the_words_said_weigh_of_all_that_were_asked(
    texts: list[str], query: str
) -> None:
    lexicon = Lexicon()
    for text in texts:
        lexicon.add(text)
    words = words_of(query)
    found = lexicon.shares(words, range(len(texts)), lexicon.counts(words, len(texts), None))
    weights = {}
    for word in words:
        having = sum(word in text.split() for text in texts)
        weights[word] = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5)) ** 2
    for text, share in zip(texts, found, strict=True):
        said = sum(weight for word, weight in weights.items() if word in text.split())
        assert share == pytest.approx(said / sum(weights.values()) if words else 0, abs=2e-6)


def test_what_only_meaning_finds_is_not_lost_to_common_words() -> None:
    """Sixty texts share the query's common words; one, nearest in meaning, shares none."""
    flat = FlatSearch.filled(61, range(61), np.array([[0.6, 0.8]] * 60 + [[0.8, 0.6]], np.float32))
    lexicon = Lexicon()
    for number in range(60):
        lexicon.add(f"can you tell me what this is {number}")
    lexicon.add("I avoid crowds")
    vector = np.array([1, 0], np.float32)
    (first,) = search(
        [View(flat, lexicon, 61)], vector, "can you suggest a resort", 1, explain=True
    )
    assert first.rank == 60
    assert first.explanation is not None
    assert (first.explanation.cosine_rank, first.explanation.share) == (1, 0)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_fusion_is_bounded_and_rises_with_both(a: float, b: float, c: float, d: float) -> None:
    cosines, shares = np.array(sorted([a, b])), np.array(sorted([c, d]))
    low, high = fuse(cosines, shares)
    assert 0 <= low <= high <= 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), TEXT), min_size=1, max_size=15),
    st.integers(0, 14),
    TEXT,
    st.sampled_from(["similar", "hybrid"]),
    st.booleans(),
)
def test_what_happened_later_does_not_even_move_a_score(
    happened: list[tuple[int, str]], choice: int, query: str, mode: RecallMode, weighed: bool
) -> None:
    """Recall before an event equals recall in a world that ends there."""
    events = [event(i, f"q {text}", day) for i, (day, text) in enumerate(happened)]
    order = sorted(events, key=lambda one: one.when)
    simulated = order[choice % len(order)]
    earlier = order[: order.index(simulated)]
    wanted: dict[str, Any] = {"k": 6, "explain": True}
    if weighed:
        wanted |= {"half_life": DAY}
    with Store.open(":memory:") as whole, Store.open(":memory:") as past:
        memory, alone = (EpisodicMemory(store, HashEmbedder(32)) for store in (whole, past))
        memory.add(events, NOW)
        alone.add([*earlier, simulated], NOW)
        asked = f"q {query}"
        assert hits(memory, asked, mode, before=simulated.id, **wanted) == hits(
            alone, asked, mode, before=simulated.id, **wanted
        )
        as_of = NOW + 2 * DAY
        known = [one for one in events if one.when <= as_of]
        with Store.open(":memory:") as then:
            ended = EpisodicMemory(then, HashEmbedder(32))
            ended.add(known, NOW)
            assert hits(memory, asked, mode, as_of=as_of, **wanted) == hits(
                ended, asked, mode, as_of=as_of, **wanted
            )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), TEXT, st.booleans()), min_size=1, max_size=20), TEXT)
def test_words_follow_every_change(changes: list[tuple[int, str, bool]], query: str) -> None:
    with Store.open(":memory:") as store:
        memory = EpisodicMemory(store, HashEmbedder(32))
        for number, text, deleted in changes:
            known = {one.id for one in store.get_all(ANN)}
            if f"e{number}" not in known:
                memory.add([event(number, f"q {text}", number)], NOW)
            elif deleted:
                memory.delete(ANN, f"e{number}", NOW)
            else:
                memory.update(ANN, f"e{number}", {"query": f"q {text}"}, NOW)
            fresh = EpisodicMemory(store, HashEmbedder(32))
            wanted: dict[str, Any] = {"k": 5, "explain": True}
            assert hits(memory, f"q {query}", **wanted) == hits(fresh, f"q {query}", **wanted)


def test_as_of_recalls_what_had_happened_by_then(memory: EpisodicMemory) -> None:
    memory.add([event(i, "film", day=i) for i in range(5)], NOW)
    as_of = NOW + 2 * DAY
    assert sorted(ask(memory, "film", as_of=as_of)) == ["e0", "e1", "e2"]
    assert ask(memory, "film", "recent", as_of=as_of, k=2) == ["e1", "e2"]
    assert ask(memory, "film", "recent", as_of=as_of, before="e1") == ["e0"]
    assert ask(memory, "film", as_of=NOW - DAY) == []


@pytest.mark.parametrize("mode", ["similar", "hybrid"])
def test_half_life_prefers_the_newer_of_like_memories(
    memory: EpisodicMemory, mode: RecallMode
) -> None:
    memory.add([event(i, "comedy film", day=i) for i in range(4)], NOW)
    assert ask(memory, "comedy film", mode) == ["e0", "e1", "e2", "e3"]
    aged = hits(memory, "comedy film", mode, half_life=DAY, explain=True)
    assert [one.interaction.id for one in aged] == ["e3", "e2", "e1", "e0"]
    assert [one.explanation.decay for one in aged if one.explanation] == [1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("mode", ["similar", "hybrid"])
def test_salience_weighs_if_asked(memory: EpisodicMemory, mode: RecallMode) -> None:
    memory.add(
        [
            event(0, "comedy film", metadata={"salience": 0.1}),
            event(1, "comedy film", day=1, metadata={"salience": "odd"}),
        ],
        NOW,
    )
    assert ask(memory, "comedy film", mode) == ["e0", "e1"]
    assert ask(memory, "comedy film", mode, salience=True) == ["e1", "e0"]
    memory.update(ANN, "e1", {"metadata": {"salience": 0.05}}, NOW)
    assert ask(memory, "comedy film", mode, salience=True) == ["e0", "e1"]


def test_an_explanation_adds_up(memory: EpisodicMemory) -> None:
    memory.add([event(0, "comedy film"), event(1, "tax form", day=1)], NOW)
    first, second = hits(memory, "comedy film", explain=True)
    assert first.explanation is not None
    assert second.explanation is not None
    assert (first.explanation.cosine_rank, first.explanation.bm25_rank) == (1, 1)
    assert first.explanation.cosine == pytest.approx(1)
    assert (first.explanation.share, first.score) == (1, 1)
    assert (second.explanation.bm25, second.explanation.bm25_rank) == (None, None)
    assert (second.explanation.cosine_rank, second.explanation.share) == (2, 0)
    assert second.explanation.cosine is not None
    assert second.score == pytest.approx((1 - WORDS) * (1 + second.explanation.cosine) / 2)
    assert hits(memory, "comedy film")[0].explanation is None


def test_a_reranker_has_the_last_word_in_one_call(memory: EpisodicMemory) -> None:
    memory.add([event(i, f"comedy film number {i}") for i in range(8)], NOW)
    calls: list[list[tuple[str, str]]] = []

    def highest_number(pairs: Sequence[tuple[str, str]]) -> list[float]:
        calls.append(list(pairs))
        return [float(text.split()[-1]) for _, text in pairs]

    ranked = EpisodicMemory(memory.store, HashEmbedder(64), reranker=highest_number)
    modes: tuple[RecallMode, ...] = ("similar", "hybrid", "recent")
    requests = [RecallRequest(ANN, mode, "comedy film", k=2, explain=True) for mode in modes]
    similar, hybrid, recent = ranked.recall(requests)
    for reply in (similar, hybrid):
        assert [one.interaction.id for one in reply.memories] == ["e7", "e6"]
        assert [one.score for one in reply.memories] == [7, 6]
        assert all(e.explanation and e.explanation.rerank is not None for e in reply.memories)
    assert recent == memory.recall(requests[2:])[0]
    assert len(calls) == 1
    broken = EpisodicMemory(memory.store, HashEmbedder(64), reranker=lambda pairs: [])
    with pytest.raises(BackendError, match="0 scores for 8 pairs"):
        broken.recall(requests[:1])


def test_vectors_given_are_searched_and_counted(memory: EpisodicMemory) -> None:
    memory.add([event(0, "comedy film"), event(1, "tax form")], NOW)
    (vector,) = memory.embedder.embed(["tax form"])
    request = RecallRequest(ANN, "similar", k=1)
    assert memory.recall([request], vectors=[vector])[0].memories[0].interaction.id == "e1"
    with pytest.raises(ValueError, match="2 vectors are given for 1 requests"):
        memory.recall([request], vectors=[vector, vector])


def test_a_plan_can_ask_for_hybrid() -> None:
    (request,) = RecallPlan(recent=0, hybrid=3).requests(ANN, "film", "e1")
    assert (request.mode, request.query, request.k, request.before) == ("hybrid", "film", 3, "e1")


def test_wrong_requests_are_refused() -> None:
    for wrong, says in (
        ({"mode": "best"}, "must be recent, similar or hybrid"),
        ({"as_of": datetime(2026, 1, 1)}, "must have a time zone"),
        ({"mode": "similar", "half_life": timedelta(0)}, "must be above 0"),
        ({"half_life": DAY}, "recent goes by time alone"),
    ):
        with pytest.raises(ValueError, match=says):
            RecallRequest(ANN, **wrong)  # type: ignore[arg-type]  # wrong on purpose

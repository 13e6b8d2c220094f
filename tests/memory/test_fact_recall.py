"""Facts are recalled together with events: as of a time, without a word from later, until forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.fact_reading import read_facts
from persona_agent.memory.fact_rows import all_facts, write_merge
from persona_agent.memory.facts import FactDraft, merge
from persona_agent.memory.forget import forget
from persona_agent.memory.generations import reindex
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Recalled, RecallMode, RecallRequest, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
DAY = timedelta(days=1)
TEA, COFFEE = "Loves green tea", "Prefers coffee to tea"


@pytest.fixture
def memory(store: Store) -> EpisodicMemory:
    """Give a memory of ten days, on every kind of store."""
    memory = EpisodicMemory(store, HashEmbedder(64))
    memory.add([event(i) for i in range(10)], NOW)
    return memory


def event(number: int, query: str = "", day: int | None = None, **of: str) -> Interaction:
    when = NOW + (number if day is None else day) * DAY
    return Interaction(Scope("ann", **of), when, query or f"walked {number} miles", id=f"e{number}")


def draft(text: str, *events: int, closes: Sequence[str] = (), confidence: float = 1) -> FactDraft:
    proof = tuple(f"e{one}" for one in events)
    return FactDraft("preference", text, proof, confidence, tuple(closes))


def believe(store: Store, *drafts: FactDraft) -> None:
    """Write what drafts say, as the job that extracts facts does."""
    events = {one.id: one for one in store.get_all(ANN)}
    with store.database.write() as connection:
        store.lock(connection, ("default", "ann"))
        known = read_facts(connection, ("default", "ann"))
        write_merge(connection, ("default", "ann"), merge(known, drafts, events), NOW)


def hits(
    memory: EpisodicMemory, query: str, mode: RecallMode = "similar", **wanted: Any
) -> tuple[Recalled, ...]:
    fields = {"scope": ANN, "k": 20, "kinds": ("event", "fact"), "max_tokens": 100_000, **wanted}
    return memory.recall([RecallRequest(mode=mode, query=query, **fields)])[0].memories


def facts(found: Sequence[Recalled]) -> list[str]:
    return [one.fact.text for one in found if one.fact is not None]


@pytest.mark.parametrize("mode", ["similar", "hybrid"])
def test_a_fact_is_ranked_among_events_and_says_what_it_rests_on(
    memory: EpisodicMemory, mode: RecallMode
) -> None:
    memory.add([event(20, "green tea shops in town")], NOW)
    believe(memory.store, draft(TEA, 2, 4))
    first, second, *rest = hits(memory, "green tea, who loves it", mode, k=5)
    assert (first.kind, first.text, first.interaction.id) == ("fact", TEA, "e4")
    assert first.fact is not None
    assert first.fact.evidence == ("e2", "e4")
    assert (second.kind, second.interaction.id) == ("event", "e20")
    assert [one.kind for one in rest] == ["event"] * 3
    assert first.score > second.score >= rest[0].score


def test_nobody_gets_facts_who_does_not_ask(memory: EpisodicMemory) -> None:
    before = hits(memory, TEA, kinds=("event",))
    believe(memory.store, draft(TEA, 2))
    assert hits(memory, TEA, kinds=("event",)) == before
    assert facts(hits(memory, TEA, kinds=("fact",))) == [TEA]
    assert [one.kind for one in hits(memory, TEA, kinds=("fact",), k=50)] == ["fact"]


def test_a_superseded_fact_is_recalled_only_for_its_time(memory: EpisodicMemory) -> None:
    believe(memory.store, draft(TEA, 2))
    (old,) = all_facts(memory.store, ANN)
    believe(memory.store, draft(COFFEE, 6, closes=[old.id]))
    assert facts(hits(memory, "tea")) == [COFFEE]
    assert facts(hits(memory, "tea", as_of=event(5).when)) == [TEA]
    assert facts(hits(memory, "tea", as_of=event(6).when)) == [COFFEE]
    assert facts(hits(memory, "tea", as_of=event(1).when)) == []
    assert facts(hits(memory, "tea", before="e6")) == [TEA]
    assert facts(hits(memory, "tea", before="e7")) == [COFFEE]
    (then,) = [one.fact for one in hits(memory, "tea", before="e6") if one.fact]
    assert (then.valid_until, then.superseded_by) == (None, None)


def test_a_fact_that_rests_on_the_event_asked_about_is_not_recalled(memory: EpisodicMemory) -> None:
    believe(memory.store, draft(TEA, 1, 5))
    assert facts(hits(memory, TEA, before="e5")) == []
    assert facts(hits(memory, TEA, before="e6")) == [TEA]


def test_later_evidence_is_not_shown_to_an_earlier_question(memory: EpisodicMemory) -> None:
    believe(memory.store, draft(TEA, 1))
    believe(memory.store, draft(TEA, 7))
    shown = [[f.evidence for h in hits(memory, TEA, **w) if (f := h.fact)] for w in WHENS]
    assert shown == [[("e1",)], [("e1", "e7")]]


WHENS: list[dict[str, Any]] = [{"before": "e5"}, {}]


def test_explain_weights_and_reranking_know_facts(memory: EpisodicMemory) -> None:
    believe(memory.store, draft(TEA, 9, confidence=0.5))
    (fact,) = (
        one
        for one in hits(memory, TEA, "hybrid", explain=True, salience=True, half_life=DAY)
        if one.fact
    )
    told = fact.explanation
    assert told is not None
    assert told.cosine == pytest.approx(1)
    assert (told.cosine_rank, told.bm25_rank) == (1, 1)
    assert (told.salience, told.decay) == (0.5, 1)
    assert (told.share, fact.score) == (1, pytest.approx(0.5))
    said: list[str] = []

    def note(pairs: Sequence[tuple[str, str]]) -> list[float]:
        said.extend(text for _, text in pairs)
        return [0.0] * len(pairs)

    hits(EpisodicMemory(memory.store, memory.embedder, reranker=note), TEA)
    assert TEA in said


def test_a_budget_counts_what_the_fact_says(memory: EpisodicMemory) -> None:
    believe(memory.store, draft("x" * 150, 3))
    assert facts(hits(memory, "x" * 150, max_tokens=20)) == []
    assert facts(hits(memory, "x" * 150, max_tokens=200)) == ["x" * 150]


def test_a_scope_of_an_agent_has_the_facts_that_rest_on_its_events_alone(store: Store) -> None:
    memory = EpisodicMemory(store, HashEmbedder(64))
    memory.add([event(0, agent="a"), event(1, agent="b"), event(2, agent="a")], NOW)
    believe(store, draft(TEA, 0, 2), draft(COFFEE, 0, 1))
    assert facts(hits(memory, "tea", scope=Scope("ann", agent="a"))) == [TEA]
    assert facts(hits(memory, "tea", scope=Scope("ann", agent="b"))) == []
    assert sorted(facts(hits(memory, "tea"))) == [TEA, COFFEE]


def test_other_processes_facts_and_deletions_are_followed(memory: EpisodicMemory) -> None:
    other = EpisodicMemory(memory.store, HashEmbedder(64))
    assert facts(hits(memory, TEA)) == []
    believe(memory.store, draft(TEA, 2), draft(COFFEE, 3))
    assert facts(hits(other, TEA)) == facts(hits(memory, TEA)) == [TEA, COFFEE]
    memory.delete(ANN, "e2", NOW)  # a fact goes with its evidence
    assert facts(hits(other, TEA)) == facts(hits(memory, TEA)) == [COFFEE]
    forget(memory.store, ANN, NOW, drop_index=memory.index.forget)
    assert hits(other, TEA) == hits(memory, TEA) == ()


def test_a_new_embedder_searches_facts_too(memory: EpisodicMemory) -> None:
    believe(memory.store, draft(TEA, 2))
    hits(memory, TEA)
    reindex(memory.store, HashEmbedder(32))
    again = EpisodicMemory(memory.store, HashEmbedder(32))
    assert facts(hits(again, TEA, k=1)) == [TEA]


DRAFT = st.tuples(
    st.sampled_from("tea coffee milk juice".split()), st.integers(0, 9), st.booleans()
)


def tell(store: Store, drafts: Sequence[tuple[str, int, bool]]) -> None:
    for text, proof, closing in drafts:
        current = [one.id for one in all_facts(store, ANN) if one.valid_until is None]
        believe(store, draft(f"likes {text}", proof, closes=current[:1] if closing else ()))


@settings(max_examples=30, deadline=None)
@given(
    st.permutations(range(10)),
    st.lists(DRAFT, max_size=8),
    st.integers(0, 9),
    st.sampled_from(["similar", "hybrid"]),
    st.booleans(),
)
def test_what_was_learnt_later_does_not_even_move_a_score(
    days: list[int],
    drafts: list[tuple[str, int, bool]],
    choice: int,
    mode: RecallMode,
    weighed: bool,
) -> None:
    """Recall of facts and events before an event equals recall in a world that ends there."""
    events = sorted((event(i, day=day) for i, day in enumerate(days)), key=lambda one: one.when)
    place = {one.id: rank for rank, one in enumerate(events)}
    simulated = events[choice]
    learnt = sorted(drafts, key=lambda one: place[f"e{one[1]}"])  # as the events came
    earlier = [one for one in learnt if place[f"e{one[1]}"] < choice]
    wanted: dict[str, Any] = {"k": 8, "explain": True, "before": simulated.id}
    wanted |= {"half_life": DAY, "salience": True} if weighed else {}
    with Store.open(":memory:") as whole, Store.open(":memory:") as past:
        memory, alone = (EpisodicMemory(store, HashEmbedder(32)) for store in (whole, past))
        memory.add(events, NOW)
        tell(whole, learnt)
        alone.add(events[: choice + 1], NOW)
        tell(past, earlier)
        assert hits(memory, "likes tea", mode, **wanted) == hits(alone, "likes tea", mode, **wanted)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=10, max_size=10),
    st.lists(
        st.tuples(
            st.sampled_from("tea coffee milk".split()),
            st.lists(st.integers(0, 9), min_size=1, max_size=3),
        ),
        max_size=8,
    ),
    st.integers(0, 9),
)
def test_no_fact_tells_of_the_event_asked_about_or_of_later_ones(
    days: list[int], drafts: list[tuple[str, list[int]]], choice: int
) -> None:
    with Store.open(":memory:") as store:
        memory = EpisodicMemory(store, HashEmbedder(32))
        memory.add([event(i, day=day) for i, day in enumerate(days)], NOW)
        order = [one.id for one in store.get_all(ANN)]
        for text, proof in drafts:
            believe(store, draft(f"likes {text}", *proof))
        made = {one.id: one.valid_from for one in all_facts(store, ANN)}
        earlier = order[: order.index(f"e{choice}")]
        for one in hits(memory, "likes tea", before=f"e{choice}", k=30):
            assert one.interaction.id in earlier
            if one.fact is not None:
                assert set(one.fact.evidence) <= set(earlier)
                assert (
                    max(event(int(e[1:]), day=days[int(e[1:])]).when for e in one.fact.evidence)
                    >= made[one.fact.id]
                )


def test_wrong_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="must name event, fact or both"):
        RecallRequest(ANN, kinds=())
    with pytest.raises(ValueError, match="must name event, fact or both"):
        RecallRequest(ANN, "similar", kinds=("thought",))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="recent recalls events alone"):
        RecallRequest(ANN, "recent", kinds=("fact",))

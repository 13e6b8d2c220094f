"""A conversation with memory: the next one starts from what was learned, and forgets with it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from persona_agent import PersonaAgent
from persona_agent.chat.deciding import Policy
from persona_agent.chat.domain import Domain
from persona_agent.chat.session import ChatSession
from persona_agent.chat.state import ChatState
from persona_agent.errors import InputError
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.fact_rows import all_facts, facts_of
from persona_agent.types import Interaction
from tests.chat.conftest import SCOPE, Open, meaning

NOIR, MUSICAL, SCIFI = "genre:Film-Noir", "genre:Musical", "genre:Sci-Fi"


def said(session: ChatSession, *texts: str) -> str:
    return [str(session.say(text)) for text in texts][-1]


def test_the_next_conversation_starts_from_what_was_learned(
    talk: Open, memory: EpisodicMemory
) -> None:
    first = talk()
    assert str(first.start()).startswith("Hello!")
    said(first, "film noir but no musicals", "I like Fox Planet", "recommend something", "1")
    taken = first.state.accepted
    second = talk()
    greeting = str(second.start())
    assert "I remember that you like Film-Noir and do not like Musical." in greeting
    assert {one.id: one.meaning for one in second.state.opinions} == {NOIR: "yes", MUSICAL: "no"}
    said(second, "recommend something")
    assert not {taken, "zq205"} & set(second.state.shown)
    assert NOIR not in second.state.asked


def test_what_was_learned_is_the_persons_words_with_facts_that_rest_on_them(
    talk: Open, memory: EpisodicMemory
) -> None:
    session = talk()
    exchange = session.say("I like film noir")
    assert exchange.learned.facts == ("Likes Film-Noir (films).",)
    (event,) = memory.store.get_all(SCOPE)
    assert (event.query, event.response, event.role) == ("I like film noir", str(exchange), "user")
    assert event.scope.run == session.state.conversation
    (fact,) = facts_of(memory.store, SCOPE)
    assert (fact.text, fact.evidence, fact.kind) == (
        "Likes Film-Noir (films).",
        (event.id,),
        "preference",
    )
    assert session.say("blorp").learned.added is None
    assert session.say("").learned.added is None
    assert len(memory.store.get_all(SCOPE)) == 1


def test_a_change_of_mind_closes_the_fact_and_names_its_successor(
    talk: Open, memory: EpisodicMemory
) -> None:
    said(talk(), "I like musicals")
    exchange = talk().say("no musicals")
    assert exchange.learned.facts == ("Does not like Musical (films).",)
    assert exchange.learned.closed == ("Likes Musical (films).",)
    assert [one.text for one in facts_of(memory.store, SCOPE)] == ["Does not like Musical (films)."]
    old, new = all_facts(memory.store, SCOPE)
    assert old.superseded_by == new.id
    assert talk().state.thinks("attribute", "no") == (MUSICAL,)


def test_saying_it_again_confirms_the_fact(talk: Open, memory: EpisodicMemory) -> None:
    said(talk(), "I like musicals")
    said(talk(), "musicals, please")
    (fact,) = facts_of(memory.store, SCOPE)
    assert len(fact.evidence) == 2


def test_what_is_deleted_or_forgotten_is_gone_from_the_next_conversation(
    talk: Open, memory: EpisodicMemory
) -> None:
    said(talk(), "I like musicals")
    said(talk(), "I like film noir")
    first = memory.store.get_all(SCOPE)[0]
    now = datetime(2026, 2, 1, tzinfo=UTC)
    memory.delete(SCOPE, first.id, now)
    assert talk().state.thinks("attribute", "yes") == (NOIR,)
    memory.delete_all(SCOPE, now)
    assert talk().state.opinions == ()
    assert facts_of(memory.store, SCOPE) == []


def test_ratings_that_are_stored_besides_count_as_likings(
    talk: Open, memory: EpisodicMemory
) -> None:
    when = datetime(2025, 1, 1, tzinfo=UTC)
    memory.add([Interaction(SCOPE, when, "Fox Planet, Sci-Fi", outcome="5", item="zq205")], when)
    session = talk(policy=Policy(patience=0))
    answer = said(session, "I don't know")
    assert "because you chose Fox Planet (1960)" in answer
    assert "zq205" not in session.state.shown


def test_a_conversation_goes_on_from_its_state_elsewhere(talk: Open) -> None:
    first = talk()
    said(first, "film noir")
    wire = first.state.to_json()
    second = talk(state=ChatState.of(wire))
    assert second.state == first.state
    assert said(second, "no") == said(first, "no")


def test_a_secret_is_taken_out_before_it_is_stored(talk: Open, memory: EpisodicMemory) -> None:
    exchange = talk().say("film noir, my key is sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF")
    assert exchange.learned.added is not None
    (event,) = memory.store.get_all(SCOPE)
    assert "sk-abcdef" not in event.query


def test_two_turns_at_the_same_moment_are_two_events(talk: Open, memory: EpisodicMemory) -> None:
    still = datetime(2026, 1, 1, tzinfo=UTC)
    session = talk(clock=lambda: still)
    said(session, "film noir", "no musicals")
    assert len(memory.store.get_all(SCOPE)) == 2


def test_the_agent_opens_conversations(domain: Domain) -> None:
    with PersonaAgent.open(":memory:", llm=FakeLLM(meaning), embedder=HashEmbedder()) as agent:
        session = agent.chat(domain, user_id="ann")
        said(session, "film noir")
        assert [one.text for one in agent.facts("ann")] == ["Likes Film-Noir (films)."]
        assert agent.search("film noir", user_id="ann").results
        with pytest.raises(InputError, match="not 'films'"):
            agent.chat(domain, user_id="ann", state=ChatState("books", "c")).start()
        agent.forget("ann")
        assert agent.chat(domain, user_id="ann").state.opinions == ()

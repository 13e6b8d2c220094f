"""Forgetting through the agent: an alignment in flight brings nothing back and stops nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.errors import IdempotencyConflict, UnknownUser
from persona_agent.llm.fake import Answer, FakeLLM
from persona_agent.memory.verify import verify
from persona_agent.types import Interaction, ModelRequest, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def rated(user: str, count: int) -> list[Interaction]:
    return [
        Interaction(
            Scope(user), NOW + timedelta(hours=i), f"film {i}", outcome=str(1 + i % 5), id=f"f{i}"
        )
        for i in range(count)
    ]


def answer(request: ModelRequest) -> Answer:
    if request.choices:
        return [-float(i + 1) for i in range(len(request.choices))]
    if request.purpose == "facts":
        fact = {"text": "Likes films", "kind": "preference", "events": [1], "confidence": 1}
        return json.dumps({"facts": [{**fact, "untrue": []}]})
    if request.schema is not None:
        return json.dumps({"lines": ["Likes film number three"]})
    return "3"


@pytest.fixture
def build() -> Iterator[Callable[[FakeLLM], PersonaAgent]]:
    """Give a function that opens an agent with a model."""
    opened: list[PersonaAgent] = []

    def build(llm: FakeLLM) -> PersonaAgent:
        opened.append(PersonaAgent.open(":memory:", llm=llm, embedder="hash", facts=True))
        return opened[-1]

    yield build
    for agent in opened:
        agent.close()


def test_an_alignment_in_flight_brings_nothing_back_and_stops_nobody(
    build: Callable[[FakeLLM], PersonaAgent],
) -> None:
    forgotten: list[str] = []

    def overtaken(request: ModelRequest) -> Answer:
        if not forgotten:
            forgotten.append(agent.forget("ann").subject)
            agent.add(rated("ann", 1))
        return answer(request)

    agent = build(FakeLLM(overtaken))
    for user in ("ann", "bob"):
        agent.add(rated(user, 60))
    ann, bob = agent.align(["ann", "bob"], options=AlignOptions(rounds=1))
    assert isinstance(ann.error, UnknownUser)
    assert bob.ok, bob.reason
    assert forgotten
    assert len(agent.get_all(user_id="ann")) == 1
    assert agent.memory.store.personas(Scope("ann")) == []
    assert agent.memory.store.alignments(Scope("ann")) == []
    assert agent.memory.store.personas(Scope("bob"))
    assert verify(agent.memory.store).ok


def test_facts_come_from_jobs_and_go_with_the_user(
    build: Callable[[FakeLLM], PersonaAgent],
) -> None:
    agent = build(FakeLLM(answer))
    first = agent.add("I like films", user_id="ann", idempotency_key="k")
    assert agent.facts("ann") == []
    assert [one.end for one in agent.run_jobs()] == ["done"]
    assert [one.text for one in agent.facts("ann")] == ["Likes films"]
    assert [one.event for one in first.results] == ["ADD"]
    with pytest.raises(IdempotencyConflict):
        agent.add("other", user_id="ann", idempotency_key="k")
    assert agent.forget("ann", dry_run=True).rows["facts"] == 1
    assert agent.forget("ann").rows["facts"] == 1
    assert (agent.facts("ann"), agent.users()) == ([], [])

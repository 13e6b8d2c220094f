"""The conversation as a tool: the model passes on words, the state is kept for it."""

from __future__ import annotations

import json

from persona_agent import PersonaAgent
from persona_agent.chat.domain import Domain
from persona_agent.chat.tool import ChatTool
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.types import ModelRequest, Scope
from tests.chat.conftest import Open


def test_it_keeps_each_persons_conversation(talk: Open) -> None:
    tool = ChatTool(lambda scope: talk())
    assert tool.find_by_talking(Scope("ann")).startswith("Hello!")
    assert tool.find_by_talking(Scope("ann"), "film noir").startswith("Noted: Film-Noir.")
    assert len(tool) == 1
    assert tool.find_by_talking(Scope("bob"), "no musicals").startswith("Noted: no Musical.")
    assert len(tool) == 2
    tool.forget(Scope("ann"))
    assert len(tool) == 1


def test_those_used_least_lately_go(talk: Open) -> None:
    tool = ChatTool(lambda scope: talk(), sessions=1)
    tool.find_by_talking(Scope("ann"))
    tool.find_by_talking(Scope("bob"))
    assert len(tool) == 1


def test_the_agent_leads_a_conversation_with_it(domain: Domain) -> None:
    steps = iter(
        [
            {"action": "find_by_talking", "arguments": {"said": "film noir"}},
            {"action": "answer", "arguments": {"text": "Are you in the mood for it?"}},
        ]
    )

    def model(request: ModelRequest) -> str:
        return json.dumps(next(steps))

    with PersonaAgent.open(":memory:", llm=FakeLLM(model), embedder=HashEmbedder()) as agent:
        agent.add("I like old films.", user_id="ann")
        tool = ChatTool(lambda scope: agent.chat(domain, user_id=scope.user))
        answer = agent.ask("Find me a film", user_id="ann", tools=tool.all)
        assert answer.steps[0].result.startswith("Noted: Film-Noir.")
        assert answer.steps[0].error is None
        assert [one.text for one in agent.facts("ann")] == ["Likes Film-Noir (films)."]

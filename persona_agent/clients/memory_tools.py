"""The memory of one agent as tools for somebody else's model: search, remember, persona."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from persona_agent.act import remembered
from persona_agent.agent import PersonaAgent
from persona_agent.errors import UnknownUser
from persona_agent.persona import render
from persona_agent.prompts import text as prompt
from persona_agent.tools import FunctionTool
from persona_agent.types import RECALL_KINDS, RecallRequest, Scope

MOST_FOUND = 50

Count = Annotated[int, Field(ge=1, le=MOST_FOUND)]


class MemoryTools:
    """Tools that act for the user of the scope they are called with; a model cannot name another.

    What a model remembers is stored as said by the assistant, whatever it claims: it is found
    again, but it never makes a line of the persona, which rests on the user's own turns.
    """

    def __init__(self, agent: PersonaAgent) -> None:
        self._agent = agent

    @property
    def all(self) -> list[FunctionTool]:
        """The tools: search, remember, persona."""
        return [FunctionTool(one) for one in (self.search, self.remember, self.persona)]

    def search(self, scope: Scope, query: str, k: Count = 8) -> str:
        """Searches what is remembered of this person, by meaning and by words: facts, and what
        happened when."""
        request = RecallRequest(scope, "hybrid", query, k, kinds=RECALL_KINDS)
        reply = self._agent.memory.recall([request])[0]
        events = [hit.interaction for hit in reply.memories if hit.fact is None]
        facts = [hit.fact for hit in reply.memories if hit.fact is not None]
        in_time = sorted(events, key=lambda one: one.when)
        return remembered(in_time, facts) or prompt("mcp", "nothing")

    def remember(self, scope: Scope, text: str) -> str:
        """Remembers something for the next conversations with this person: one statement, in
        plain words. Never passwords or keys."""
        message = {"role": "assistant", "content": text}
        (result,) = self._agent.add(message, user_id=scope.user).results
        if result.event == "SKIP":
            return prompt("mcp", "skipped", reason=result.reason or result.event)
        return prompt("mcp", "stored")

    def persona(self, scope: Scope) -> str:
        """Tells who this person is: the lines of the persona, each of which has proved itself or
        was written by the person."""
        try:
            current = self._agent.persona(scope.user).current
        except UnknownUser:
            return prompt("mcp", "stranger")
        if not current.lines:
            return prompt("mcp", "stranger")
        lines = render(current.lines)
        return prompt("mcp", "persona", version=str(current.version), lines=lines)

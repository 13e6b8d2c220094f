"""What is known of many users at once, for their prompts: one batch of recalls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_agent.act import requests
from persona_agent.context import Context, fitted
from persona_agent.errors import StoreError
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.persona import Persona
from persona_agent.personas import Personas
from persona_agent.predict import RecallPlan
from persona_agent.types import Scope


@dataclass(frozen=True, slots=True)
class Question:
    """Whose memory is asked for what, and which of the user's words the prompt shows already."""

    scope: Scope
    query: str
    shown: frozenset[str] = frozenset()


def know(
    memory: EpisodicMemory,
    personas: Personas,
    plan: RecallPlan,
    questions: Sequence[Question],
) -> list[Context | Exception]:
    """Return the context of each question, in order, or why there is none.

    Only a stored persona is used: none is made here. All recalls are one batch; a persona that
    cannot be read disturbs only its own question.
    """
    heads: list[Persona | Exception] = []
    for one in questions:
        try:
            heads.append(personas.head(one.scope) or Persona(one.scope.owner))
        except (StoreError, ValueError) as error:
            heads.append(error)
    asked = [requests(plan, one.scope, one.query) for one in questions]
    replies = iter(memory.recall([request for some in asked for request in some]))
    found: list[Context | Exception] = []
    for one, head, some in zip(questions, heads, asked, strict=True):
        own = [next(replies) for _ in some]
        if isinstance(head, Exception):
            found.append(head)
            continue
        hits = [hit for reply in own for hit in reply.memories]
        try:
            found.append(fitted(head, hits, max_tokens=plan.max_tokens, shown=one.shown))
        except ValueError:  # the persona alone is too long for this server's bound: memories go
            found.append(fitted(replace(head, lines=()), hits, max_tokens=plan.max_tokens))
    return found

"""What is known of many users at once, for their prompts: one batch of recalls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_agent.act import requests
from persona_agent.context import Context, fitted
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.rows import owner_of
from persona_agent.memory.snapshot import Snapshot
from persona_agent.memory.summary_job import standing_in
from persona_agent.persona import Persona, PersonaLine
from persona_agent.personas import read
from persona_agent.predict import RecallPlan
from persona_agent.semantic import summary_lines
from persona_agent.types import Recalled, Scope


@dataclass(frozen=True, slots=True)
class Question:
    """Whose memory is asked for what, and which of the user's words the prompt shows already."""

    scope: Scope
    query: str
    shown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Head:
    """What is kept of a user in short: the persona, and the lines of the summary."""

    persona: Persona
    lines: tuple[PersonaLine, ...] = ()


def know(
    memory: EpisodicMemory,
    plan: RecallPlan,
    questions: Sequence[Question],
    *,
    summary: bool = True,
) -> list[Context | Exception]:
    """Return the context of each question, in order, or why there is none.

    Only a stored persona is used: none is made here. `summary` says whether the stored summary is
    shown. All recalls are one batch; a persona that cannot be read disturbs only its own question.
    """
    with memory.store.snapshot() as snapshot:
        heads = [_head(snapshot, one.scope, summary) for one in questions]
    asked = [requests(plan, one.scope, one.query) for one in questions]
    replies = iter(memory.recall([request for some in asked for request in some]))
    found: list[Context | Exception] = []
    for one, head, some in zip(questions, heads, asked, strict=True):
        hits = [hit for _ in some for hit in next(replies).memories]
        found.append(head if isinstance(head, Exception) else _fitted(head, hits, plan, one))
    return found


def _head(snapshot: Snapshot, scope: Scope, summary: bool) -> _Head | ValueError:
    stored = snapshot.persona(scope)
    try:
        persona = Persona(scope.owner) if stored is None else read(stored)
    except ValueError as error:
        return error
    standing = standing_in(snapshot.connection, owner_of(scope)) if summary else None
    return _Head(persona, () if standing is None else tuple(summary_lines([standing])))


def _fitted(head: _Head, hits: Sequence[Recalled], plan: RecallPlan, question: Question) -> Context:
    def fit(persona: Persona) -> Context:
        return fitted(
            persona,
            hits,
            max_tokens=plan.max_tokens,
            shown=question.shown,
            lines=head.lines,
        )

    try:
        return fit(head.persona)
    except ValueError:  # the persona alone is too long for this server's bound
        return fit(replace(head.persona, lines=()))

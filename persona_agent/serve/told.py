"""What the memory's routes answer, as the OpenAPI description shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, cast

from pydantic import BaseModel, JsonValue

from persona_agent.memory.operations import Operation
from persona_agent.persona import Persona, PersonaLine
from persona_agent.types import Interaction, Recalled


class Memory(BaseModel):
    """A memory: its text, and the interaction that it is."""

    id: str
    memory: str
    user_id: str
    agent_id: str | None
    run_id: str | None
    when: datetime
    role: str
    query: str
    response: str | None
    outcome: str | None
    item: str | None
    options: list[str]
    metadata: dict[str, JsonValue]

    @classmethod
    def of(cls, one: Interaction) -> Memory:
        """Return an interaction as it is sent."""
        return cls(**_fields(one))


class Found(BaseModel):
    """A memory or a fact that was found, with its score; `interaction` is what it rests on."""

    id: str
    kind: Literal["event", "fact"]
    memory: str
    score: float
    when: datetime
    interaction: Memory
    explanation: dict[str, JsonValue] | None = None

    @classmethod
    def of(cls, hit: Recalled) -> Found:
        """Return a hit as it is sent."""
        told = None if hit.explanation is None else hit.explanation.to_json()
        return cls(
            id=hit.interaction.id if hit.fact is None else hit.fact.id,
            kind=hit.kind,
            memory=hit.text,
            score=hit.score,
            when=hit.interaction.when if hit.fact is None else hit.fact.valid_from,
            interaction=Memory.of(hit.interaction),
            explanation=cast("dict[str, JsonValue] | None", told),
        )


class AddedOne(BaseModel):
    """What became of one memory, and why."""

    id: str
    event: Literal["ADD", "UPDATE", "SKIP"]
    reason: str
    codes: list[str]


class AddedMany(BaseModel):
    """What was stored, changed and skipped, in the order given."""

    results: list[AddedOne]


class MemoryPage(BaseModel):
    """Memories, latest first, and the cursor of the next page."""

    results: list[Memory]
    next: str | None


class FoundMany(BaseModel):
    """What was found, best first."""

    results: list[Found]


class ChangeTold(BaseModel):
    """A change of a memory: what it was, and what it became."""

    at: datetime
    action: Literal["ADD", "UPDATE", "DELETE"]
    old: Memory | None
    new: Memory | None


class Changes(BaseModel):
    """The history of a memory, oldest first."""

    results: list[ChangeTold]


class Line(BaseModel):
    """A line of a persona, with the memories that it rests on."""

    id: str
    text: str
    locked: bool
    origin: str
    evidence: list[str]


class PersonaTold(BaseModel):
    """A version of a persona; 0 is the one that nobody stored yet."""

    user_id: str
    version: int
    parent: int | None
    origin: str
    note: str
    created: datetime | None
    scores: dict[str, float]
    lines: list[Line]

    @classmethod
    def of(cls, one: Persona) -> PersonaTold:
        """Return a persona as it is sent."""
        return cls(
            user_id=one.scope.user,
            version=one.version,
            parent=one.parent,
            origin=one.origin,
            note=one.note,
            created=one.created,
            scores=dict(one.scores),
            lines=[line_of(line) for line in one.lines],
        )


class Versions(BaseModel):
    """Versions of a persona, latest first, and the cursor of the next page."""

    results: list[PersonaTold]
    next: str | None


class DiffTold(BaseModel):
    """What changed between two versions."""

    old_version: int
    new_version: int
    added: list[Line]
    removed: list[Line]
    locked: list[Line]
    unlocked: list[Line]


class UserKnown(BaseModel):
    """How much is kept about a user; zeros for somebody of whom nothing is."""

    user_id: str
    memories: int
    facts: int
    persona_version: int


class FactTold(BaseModel):
    """A fact about a user, and the memories that it rests on."""

    id: str
    kind: str
    text: str
    evidence: list[str]
    confidence: float
    valid_from: datetime
    valid_until: datetime | None
    superseded_by: str | None


class Facts(BaseModel):
    """Facts, oldest first."""

    results: list[FactTold]


class ContextTold(BaseModel):
    """What a prompt should know of a user, and what that is made of."""

    text: str
    instructions: str
    persona_version: int
    memories: list[str]
    facts: list[str]


class ReceiptTold(BaseModel):
    """What was forgotten, or would be; what is beyond this server's reach."""

    subject: str
    at: datetime
    dry_run: bool
    rows: dict[str, int]
    log_emptied: bool
    beyond_reach: list[str]
    vacuumed: str | None
    outside: dict[str, int]


class OperationTold(BaseModel):
    """Work that was asked for, and how it stands."""

    id: str
    kind: str
    user_id: str
    state: Literal["queued", "running", "done", "failed"]
    created: datetime
    updated: datetime
    progress: dict[str, JsonValue]
    result: JsonValue
    error: str | None

    @classmethod
    def of(cls, one: Operation) -> OperationTold:
        """Return an operation as it is sent."""
        return cls(
            id=one.id,
            kind=one.kind,
            user_id=one.scope.user,
            state=one.state,
            created=one.created,
            updated=one.updated,
            progress=cast("dict[str, JsonValue]", dict(one.progress)),
            result=one.result,
            error=one.error,
        )


class Me(BaseModel):
    """Whom the server takes the caller for."""

    tenant: str
    user_id: str | None
    key: str
    scopes: list[str]


class OperationsTold(BaseModel):
    """Operations, latest first."""

    results: list[OperationTold]


def line_of(line: PersonaLine) -> Line:
    """Return a persona line as it is sent."""
    return Line(
        id=line.id,
        text=line.text,
        locked=line.locked,
        origin=line.origin,
        evidence=list(line.evidence),
    )


def _fields(one: Interaction) -> dict[str, Any]:
    return {
        "id": one.id,
        "memory": one.text,
        "user_id": one.scope.user,
        "agent_id": one.scope.agent,
        "run_id": one.scope.run,
        "when": one.when,
        "role": one.role,
        "query": one.query,
        "response": one.response,
        "outcome": one.outcome,
        "item": one.item,
        "options": list(one.options),
        "metadata": dict(one.metadata),
    }

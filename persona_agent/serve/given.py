"""What clients send to the memory's routes: checked at the border, unknown keys refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from persona_agent.types import MAX_ID_BYTES, check_id, check_text

MAX_TEXT = 200_000


class Given(BaseModel):
    """What a client sends: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


def checked_id(value: str) -> str:
    """Return an id that the store can hold; raises ValueError."""
    return check_id(value, "id")


def checked_text(value: str) -> str:
    """Return text that the store can hold; raises ValueError."""
    return check_text(value, "text")


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES), AfterValidator(checked_id)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(checked_text)]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="`next` of the page before.")]
Ids = Annotated[
    list[Id] | None,
    Query(max_length=200, description="Only these; those that are not are left out."),
]
UserId = Annotated[Id | None, Query(description="Whose; by default the caller's own user.")]


class MessageGiven(Given):
    """A chat message to remember."""

    role: Literal["user", "assistant", "tool"]
    content: Annotated[Text, Field(min_length=1)]


class MemoryGiven(Given):
    """An interaction to remember: one of query, response and outcome is needed."""

    query: Text = ""
    response: Text | None = None
    outcome: Text | None = None
    role: Literal["user", "assistant", "tool", "system"] = "user"
    item: Text | None = None
    options: list[Text] = Field(default=[], max_length=1000)
    when: datetime | None = Field(default=None, description="Now, if left out.")
    id: Id | None = Field(default=None, description="Made of the content, if left out.")
    metadata: dict[str, JsonValue] = {}


class AddGiven(Given):
    """What to remember of a user."""

    user_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None
    messages: list[MessageGiven] = Field(default=[], max_length=1000)
    memories: list[MemoryGiven] = Field(default=[], max_length=1000)
    metadata: dict[str, JsonValue] = {}


class Filters(Given):
    """What memories must be; an empty list matches nothing."""

    agent_id: Id | None = None
    run_id: Id | None = None
    ids: list[Id] | None = Field(default=None, max_length=1000)
    roles: list[Literal["user", "assistant", "tool", "system"]] | None = None
    since: datetime | None = None
    until: datetime | None = None


class SearchGiven(Given):
    """What to look for in a user's memories and facts."""

    query: Annotated[Text, Field(min_length=1)]
    user_id: Id | None = None
    top_k: int = Field(default=10, ge=1, le=200)
    mode: Literal["similar", "hybrid"] = "hybrid"
    kinds: list[Literal["event", "fact"]] = Field(default=["event", "fact"], min_length=1)
    filters: Filters = Filters()
    explain: bool = False


class ChangeGiven(Given):
    """What to change of a memory; what is left out stays."""

    user_id: Id | None = None
    query: Text | None = None
    response: Text | None = None
    outcome: Text | None = None
    metadata: dict[str, JsonValue] | None = None


class FeedbackGiven(Given):
    """What came of an answer or a memory: by the id in X-Persona-Turn, or any memory's."""

    user_id: Id | None = None
    id: Id
    outcome: Annotated[Text, Field(min_length=1, max_length=2000)]
    comment: Annotated[Text, Field(max_length=4000)] | None = None


class PersonaGiven(Given):
    """The lines that a persona is to have; `version` is the one they were made from."""

    lines: list[Annotated[Text, Field(min_length=1, max_length=240)]] = Field(max_length=24)
    version: int | None = Field(default=None, ge=0)


class LockGiven(Given):
    """A line, by id or text, to lock or to unlock."""

    line: Annotated[Text, Field(min_length=1, max_length=240)]
    locked: bool


class RollbackGiven(Given):
    """The version to return to, as a new one."""

    version: int = Field(ge=1, le=2**31 - 1)


class AlignGiven(Given):
    """How to align; what is left out is the default."""

    recent: int = Field(default=3, ge=1, le=50)
    held_out: int = Field(default=12, ge=2, le=500)
    anchors: int = Field(default=4, ge=0, le=100)
    rounds: int = Field(default=3, ge=1, le=20)

"""Between interactions and the rows that keep them, and what the store answers.

A row is a mapping from column names to plain values, as SQLAlchemy takes and gives them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from persona_agent.types import Interaction, Json, Record, Scope, as_json

Owner: TypeAlias = tuple[str, str]
Row: TypeAlias = dict[str, str | int | None]
AddedEvent: TypeAlias = Literal["ADD", "UPDATE", "SKIP"]
Action: TypeAlias = Literal["ADD", "UPDATE", "DELETE"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

CONTENT = (
    "when",
    "agent",
    "run",
    "role",
    "query",
    "response",
    "outcome",
    "item",
    "options",
    "metadata",
)


@dataclass(frozen=True, slots=True)
class Added(Record):
    """What became of one interaction that was to be added, and why.

    `codes` are the reasons for programs: duplicate, differs, completed; of the gate empty,
    too_long, boilerplate, repeated; and `secret:KIND` for each kind of secret that was taken out.
    """

    id: str
    event: AddedEvent
    reason: str = ""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change(Record):
    """One change of an interaction: when it was made, and the content before and after.

    Of a deleted interaction the times remain, the contents do not.
    """

    at: datetime
    action: Action
    old: Interaction | None
    new: Interaction | None


@dataclass(frozen=True, slots=True)
class StoredPersona(Record):
    """A persona version as kept. The store does not look into `document` and `scores`: JSON."""

    version: int
    parent: int | None
    created: datetime
    origin: str
    note: str
    document: str
    scores: str


def owner_of(scope: Scope) -> Owner:
    """Return tenant and user, the key of everything that is kept about a person."""
    return scope.tenant, scope.user


def microseconds(when: datetime) -> int:
    """Return a time as whole microseconds since 1970 in UTC, exactly.

    Raises ValueError for a time without a time zone.

    >>> microseconds(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
    1000005
    """
    if when.tzinfo is None:
        raise ValueError(f"{when!r} has no time zone; give one, as datetime.now(timezone.utc) does")
    return (when - EPOCH) // MICROSECOND


def time_of(value: int) -> datetime:
    """Return the time in UTC of microseconds since 1970."""
    return EPOCH + timedelta(0, 0, value)


def to_row(one: Interaction) -> Row:
    """Return the content of an interaction as a row, with its hash.

    Raises TypeError or ValueError, naming the interaction, if its metadata is not JSON.
    """
    content: Row = {
        "when": microseconds(one.when),
        "agent": one.scope.agent,
        "run": one.scope.run,
        "role": one.role,
        "query": one.query,
        "response": one.response,
        "outcome": one.outcome,
        "item": one.item,
        "options": _json(list(one.options), one.id, "options") if one.options else "[]",
        "metadata": _json(one.metadata, one.id, "metadata") if one.metadata else "{}",
    }
    text = json.dumps([content[name] for name in CONTENT])
    return {
        "tenant": one.scope.tenant,
        "user": one.scope.user,
        "id": one.id,
        **content,
        "hash": hashlib.sha256(text.encode()).hexdigest()[:32],
    }


def to_interaction(row: Mapping[str, Any]) -> Interaction:
    """Return the interaction that a row of `events` keeps; Any: of the types in the schema."""
    owner = row["tenant"], row["user"]
    return interaction_of(owner, row["id"], [row[name] for name in CONTENT])


class _Unchecked(Record):
    """An interaction in the making: the same slots, not frozen yet."""

    __slots__ = Interaction.__slots__


def interaction_of(owner: Owner, event_id: str, content: Sequence[Any]) -> Interaction:
    """Return the interaction of an owner's id and the values of CONTENT.

    It was checked when it was stored: checking it again is what a search would spend most on.
    Any: values of the types in the schema.
    """
    when, agent, run, role, query, response, outcome, item, options, metadata = content
    one: Any = _Unchecked()
    one.scope = _scope(owner[1], owner[0], agent, run)
    one.when = time_of(when)
    one.query = query
    one.outcome = outcome
    one.response = response
    one.role = role
    one.item = item
    one.options = tuple(json.loads(options)) if options != "[]" else ()
    one.metadata = json.loads(metadata) if metadata != "{}" else {}
    one.id = event_id
    one.__class__ = Interaction
    checked: Interaction = one
    return checked


@lru_cache(maxsize=4096)
def _scope(user: str, tenant: str, agent: str | None, run: str | None) -> Scope:
    return Scope(user, tenant, agent, run)


def pack_content(row: Mapping[str, object]) -> str:
    """Return the content of a row as JSON text, as the log of changes keeps it."""
    return json.dumps({name: row[name] for name in CONTENT}, separators=(",", ":"))


def unpack_content(content: str, owner: Owner, event_id: str) -> Interaction:
    """Return the interaction that `pack_content` kept."""
    return to_interaction(
        {"tenant": owner[0], "user": owner[1], "id": event_id, **json.loads(content)}
    )


def decide(stored: Row | None, new: Row) -> tuple[Added, Row]:
    """Return what adding `new` means beside what is `stored` under its id, and the row then.

    A missing outcome or response is filled in, which is how feedback arrives later. Nothing that
    is there is ever replaced: that takes `update`.
    """
    event_id = str(new["id"])
    if stored is None:
        return Added(event_id, "ADD"), new
    if stored["hash"] == new["hash"]:
        return Added(event_id, "SKIP", f"duplicate of {event_id}", ("duplicate",)), stored
    differing = [name for name in CONTENT if stored[name] != new[name]]
    late = [name for name in differing if name in ("outcome", "response")]
    if late == differing and all(stored[n] is None or new[n] is None for n in late):
        filled = [name for name in late if stored[name] is None]
        if not filled:
            why = f"duplicate of {event_id}, which is more complete"
            return Added(event_id, "SKIP", why, ("duplicate",)), stored
        merged = stored | {name: new[name] for name in filled}
        whole = to_row(to_interaction(merged))
        why = f"{' and '.join(filled)} arrived"
        return Added(event_id, "UPDATE", why, ("completed",)), stored | {**whole}
    why = f"{event_id} is stored with another {', '.join(differing)}; update(id, ...) changes it"
    return Added(event_id, "SKIP", why, ("differs",)), stored


def takes_away(before: Interaction, after: Interaction) -> bool:
    """Return whether a change takes away or replaces what was told; filling what is empty does not."""
    for name in ("query", "response", "outcome", "item", "options"):
        told = getattr(before, name)
        if told and told != getattr(after, name):
            return True
    return {**after.metadata, **before.metadata} != dict(after.metadata)


def _json(value: Mapping[str, Json] | Sequence[Json], event_id: str, what: str) -> str:
    try:
        return json.dumps(as_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"the {what} of interaction {event_id!r} are not JSON: {error}"
        ) from error

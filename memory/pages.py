"""Pages of a user's interactions, latest first: a cursor is a place in that order, not a count.

What is added or deleted between two pages makes no other interaction appear twice or not at all.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Table, and_, func, or_, select

from persona_agent.errors import InputError
from persona_agent.memory.rows import microseconds, owner_of, time_of, to_interaction
from persona_agent.memory.schema import events, facts, personas, users
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Record, Role, Scope

MOST = 1000


@dataclass(frozen=True, slots=True)
class Filter(Record):
    """What interactions must be; None asks for nothing. An empty tuple matches nothing."""

    ids: tuple[str, ...] | None = None
    roles: tuple[Role, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page(Record):
    """Some interactions, latest first, and the cursor of what follows; None at the end."""

    interactions: tuple[Interaction, ...]
    next: str | None


def page_of(
    store: Store,
    scope: Scope,
    *,
    limit: int,
    cursor: str | None = None,
    wanted: Filter = Filter(),
) -> Page:
    """Return at most `limit` interactions of a scope; an unknown user has none.

    Raises InputError for a cursor that is none of ours, ValueError for a limit out of bounds.
    """
    if not 1 <= limit <= MOST:
        raise ValueError(f"limit is {limit}; it must be 1 to {MOST}")
    query = select(events).where(of_owner(events))
    if scope.agent is not None:
        query = query.where(events.c.agent == scope.agent)
    if scope.run is not None:
        query = query.where(events.c.run == scope.run)
    if wanted.ids is not None:
        query = query.where(events.c.id.in_(wanted.ids))
    if wanted.roles is not None:
        query = query.where(events.c.role.in_(wanted.roles))
    if wanted.since is not None:
        query = query.where(events.c.when >= microseconds(wanted.since))
    if wanted.until is not None:
        query = query.where(events.c.when < microseconds(wanted.until))
    if cursor is not None:
        when, seq = _place(cursor)
        earlier = and_(events.c.when == when, events.c.seq < seq)
        query = query.where(or_(events.c.when < when, earlier))
    query = query.order_by(events.c.when.desc(), events.c.seq.desc()).limit(limit + 1)
    with store.database.read() as connection:
        rows = list(connection.execute(query, key(owner_of(scope))).mappings())
    shown = rows[:limit]
    after = None
    if len(rows) > limit:
        after = _cursor(f"{shown[-1]['when']} {shown[-1]['seq']}")
    return Page(tuple(to_interaction(dict(row)) for row in shown), after)


@dataclass(frozen=True, slots=True)
class KnownUser(Record):
    """A user in numbers: memories, facts that hold, the latest persona (0 for none), and times."""

    user: str
    memories: int
    facts: int
    persona_version: int
    created: datetime
    latest: datetime | None


def page_of_users(
    store: Store, tenant: str, *, limit: int, cursor: str | None = None, starting: str = ""
) -> tuple[list[KnownUser], str | None]:
    """Return users of a tenant in the order of their ids, and a cursor of what follows.

    With `starting`, those alone whose ids begin so. Raises as `page_of` does.
    """
    if not 1 <= limit <= MOST:
        raise ValueError(f"limit is {limit}; it must be 1 to {MOST}")
    held = and_(_of_each_user(facts), facts.c.valid_until.is_(None))
    query = (
        select(
            users.c.user,
            users.c.event_count,
            select(func.count()).where(held).scalar_subquery(),
            select(func.max(personas.c.version)).where(_of_each_user(personas)).scalar_subquery(),
            users.c.created,
            select(func.max(events.c.when)).where(_of_each_user(events)).scalar_subquery(),
        )
        .where(users.c.tenant == tenant)
        .order_by(users.c.user)
        .limit(limit + 1)
    )
    if starting:
        query = query.where(func.substr(users.c.user, 1, len(starting)) == starting)
    if cursor is not None:
        query = query.where(users.c.user > _plain(cursor))
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    found = [
        KnownUser(
            user,
            memories,
            held_facts,
            version or 0,
            time_of(created),
            None if latest is None else time_of(latest),
        )
        for user, memories, held_facts, version, created, latest in rows[:limit]
    ]
    return found, _cursor(found[-1].user) if len(rows) > limit else None


def _of_each_user(table: Table) -> ColumnElement[bool]:
    """Return what ties a table to the user of the row around it."""
    return and_(table.c.tenant == users.c.tenant, table.c.user == users.c.user)


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _plain(cursor: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        plain = text.decode()
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InputError(f"cursor {cursor[:40]!r} is none of ours; leave it out") from error
    if "\x00" in plain:
        raise InputError("the cursor is none of ours; leave it out")
    return plain


def _place(cursor: str) -> tuple[int, int]:
    parts = _plain(cursor).split(" ")
    try:
        when, seq = (int(part) for part in parts)
    except ValueError as error:
        raise InputError(f"cursor {cursor[:40]!r} is none of ours; leave it out") from error
    if not (abs(when) < 2**63 and abs(seq) < 2**63):
        raise InputError(f"cursor {cursor[:40]!r} is none of ours; leave it out")
    return when, seq

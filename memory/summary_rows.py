"""Summaries as rows: reading them, writing a tree, and what falls with an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from persona_agent.memory.citing import citations, gathered
from persona_agent.memory.rows import Owner, microseconds, time_of
from persona_agent.memory.schema import (
    summaries,
    summary_events,
    summary_parts,
    users,
)
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.summaries import Summary, Tree
from persona_agent.memory.writing import Statements, waiting_job

SUMMARY_JOB = "summaries"

_ALL = select(summaries).where(of_owner(summaries)).order_by(summaries.c.valid_from, summaries.c.id)
_EVENTS = citations(summary_events, summary_events.c.summary)
_PARTS = (
    select(summary_parts.c.summary, summary_parts.c.part)
    .join(
        summaries,
        (summaries.c.tenant == summary_parts.c.tenant)
        & (summaries.c.user == summary_parts.c.user)
        & (summaries.c.id == summary_parts.c.part),
    )
    .where(of_owner(summary_parts))
    .order_by(summaries.c.valid_from, summaries.c.id)
)


def read_summaries(connection: Connection, owner: Owner) -> list[Summary]:
    """Return all summaries of a user, by the time of what they tell."""
    made_of = gathered(connection, _EVENTS, owner)
    parts = gathered(connection, _PARTS, owner)
    rows = connection.execute(_ALL, key(owner)).mappings()
    return [
        summary_in(dict(row), made_of.get(row["id"], ()), parts.get(row["id"], ())) for row in rows
    ]


def write_summaries(
    connection: Connection, owner: Owner, new: Sequence[Summary], now: datetime
) -> None:
    """Write summaries that are not there yet, parts before wholes."""
    if not new:
        return
    whose = {"tenant": owner[0], "user": owner[1]}
    at = microseconds(now)
    connection.execute(insert(summaries), [{**whose, **_row(one), "created": at} for one in new])
    cited = [{**whose, "summary": one.id, "event": e} for one in new for e in one.events]
    parts = [{**whose, "summary": one.id, "part": p} for one in new for p in one.parts]
    if cited:
        connection.execute(insert(summary_events), cited)
    if parts:
        connection.execute(insert(summary_parts), parts)


def write_tree(connection: Connection, owner: Owner, tree: Tree, now: datetime) -> None:
    """Write a whole tree: what is new, what stands again, and what it took the place of."""
    there = {one.id: one for one in read_summaries(connection, owner)}
    write_summaries(connection, owner, [one for one in tree.new if one.id not in there], now)
    if tree.user is None:
        return
    standing = set(tree.standing)
    again = [one.id for one in there.values() if one.id in standing and one.valid_until is not None]
    fallen = [
        one.id for one in there.values() if one.id not in standing and one.valid_until is None
    ]
    ended = {"valid_until": microseconds(tree.user.valid_from), "superseded_by": tree.user.id}
    for ids, values in ((again, {"valid_until": None, "superseded_by": None}), (fallen, ended)):
        for some in _chunks(ids):
            change = update(summaries).where(of_owner(summaries), summaries.c.id.in_(some))
            connection.execute(change.values(**values), key(owner))


def request_summaries(connection: Connection, sql: Statements, owner: Owner, at: int) -> None:
    """Ask for a job that brings a user's summaries up to date, in the connection's transaction."""
    last = connection.execute(select(users.c.next_seq).where(of_owner(users)), key(owner)).scalar()
    if last is not None:
        connection.execute(sql.enqueue, [waiting_job(owner, SUMMARY_JOB, 0, last, at)])


def release_summaries(
    connection: Connection, sql: Statements, owner: Owner, ids: Sequence[str], at: int
) -> tuple[int, int]:
    """Delete the summaries that rest on these events, and ask for new ones.

    Whatever rests on them does, however far above: its words may be the event's. What they had
    taken the place of stands again. Returns how many were deleted and how many stand again.
    """
    gone = _resting_on(connection, owner, ids)
    if not gone:
        return 0, 0
    some: BindParameter[str] = bindparam("ids", expanding=True)
    reopened = 0
    for table, column in (
        (summary_events, summary_events.c.summary),
        (summary_parts, summary_parts.c.summary),
        (summary_parts, summary_parts.c.part),
        (summaries, summaries.c.id),
    ):
        for part in _chunks(sorted(gone)):
            connection.execute(
                delete(table).where(of_owner(table), column.in_(some)), {**key(owner), "ids": part}
            )
    for part in _chunks(sorted(gone)):
        change = (
            update(summaries)
            .where(of_owner(summaries), summaries.c.superseded_by.in_(some))
            .values(valid_until=None, superseded_by=None)
        )
        reopened += connection.execute(change, {**key(owner), "ids": part}).rowcount
    request_summaries(connection, sql, owner, at)
    return len(gone), reopened


def _resting_on(connection: Connection, owner: Owner, ids: Sequence[str]) -> set[str]:
    """Return the summaries that rest on events, directly or through others."""
    some: BindParameter[str] = bindparam("ids", expanding=True)
    cite = (
        select(summary_events.c.summary)
        .where(of_owner(summary_events), summary_events.c.event.in_(some))
        .distinct()
    )
    above = (
        select(summary_parts.c.summary)
        .where(of_owner(summary_parts), summary_parts.c.part.in_(some))
        .distinct()
    )
    found: set[str] = set()
    query, wanted = cite, list(ids)
    while wanted:
        next_up: set[str] = set()
        for part in _chunks(wanted):
            next_up |= set(connection.execute(query, {**key(owner), "ids": part}).scalars())
        query, wanted = above, sorted(next_up - found)
        found |= next_up
    return found


def summary_in(
    row: Mapping[str, Any], made_of: Sequence[str] = (), parts: Sequence[str] = ()
) -> Summary:
    """Return the summary in a row, made of these events and of these summaries.

    Any: values of the types in the schema.
    """
    return Summary(
        row["id"],
        row["level"],
        tuple(row["text"].splitlines()),
        time_of(row["valid_from"]),
        tuple(made_of),
        tuple(parts),
        None if row["valid_until"] is None else time_of(row["valid_until"]),
        row["superseded_by"],
    )


def _row(one: Summary) -> dict[str, object]:
    return {
        "id": one.id,
        "level": one.level,
        "text": "\n".join(one.lines),
        "valid_from": microseconds(one.valid_from),
        "valid_until": None if one.valid_until is None else microseconds(one.valid_until),
        "superseded_by": one.superseded_by,
    }


def _chunks(ids: Sequence[str]) -> list[list[str]]:
    return [list(ids[start : start + 500]) for start in range(0, len(ids), 500)]

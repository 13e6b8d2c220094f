"""Lineage: what was made of what, and what goes when its source goes.

A fact that cites a deleted event is deleted, since its words may be the event's; the fact that it
had taken the place of holds again, and a job makes anew what the remaining events say. A summary
that rests on it goes in the same way, with all that was summed up from it. A persona line loses
the citation; if a model wrote it, or nothing else supports it, it goes, from every version. Lines
that the user wrote or locked stay. Alignments under way are dropped, and
so are adapters that were made of the event: weights cannot unlearn it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, select, update

from persona_agent.memory.adapter_rows import discard, touching
from persona_agent.memory.rows import Owner
from persona_agent.memory.schema import (
    alignments,
    events,
    evidence,
    facts,
    meta,
    personas,
    tombstones,
)
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.summary_rows import release_summaries
from persona_agent.memory.writing import OF_USER, Statements, count_fact_write, waiting_job
from persona_agent.types import Record

FACT_JOB = "facts"
TOMBSTONE_KEY = "tombstone_key"
BY_A_MODEL = ("summary", "gradient", "fact", "adapter")


@dataclass(frozen=True, slots=True)
class Released(Record):
    """What went, or changed, because the events that it came from are to go."""

    facts_deleted: int = 0
    facts_reopened: int = 0
    facts_to_derive: int = 0
    lines_dropped: int = 0
    lines_rebased: int = 0
    alignments_dropped: int = 0
    summaries_deleted: int = 0
    summaries_reopened: int = 0
    adapters_deleted: int = 0


def release(
    connection: Connection, sql: Statements, owner: Owner, ids: Sequence[str], at: int
) -> Released:
    """Undo what was made of a user's events, before they are deleted in this transaction."""
    done = Released()
    for start in range(0, len(ids), 500):
        done = _release_facts(connection, sql, owner, ids[start : start + 500], at, done)
    summed, stand_again = release_summaries(connection, sql, owner, ids, at)
    gone = discard(connection, owner[0], touching(connection, owner, ids), at)
    dropped = connection.execute(delete(alignments).where(of_owner(alignments)), key(owner))
    dropped_lines, rebased = _release_lines(connection, owner, frozenset(ids))
    return replace(
        done,
        lines_dropped=dropped_lines,
        lines_rebased=rebased,
        alignments_dropped=dropped.rowcount,
        summaries_deleted=summed,
        summaries_reopened=stand_again,
        adapters_deleted=len(gone),
    )


def _release_facts(
    connection: Connection,
    sql: Statements,
    owner: Owner,
    ids: Sequence[str],
    at: int,
    done: Released,
) -> Released:
    some: BindParameter[str] = bindparam("ids", expanding=True)
    citing = (
        select(evidence.c.fact).where(of_owner(evidence), evidence.c.event.in_(some)).distinct()
    )
    gone = list(connection.execute(citing, {**key(owner), "ids": list(ids)}).scalars())
    if not gone:
        return done
    these = {**key(owner), "ids": gone}
    left = (
        select(func.min(events.c.seq), func.max(events.c.seq))
        .join(
            evidence,
            (events.c.tenant == evidence.c.tenant)
            & (events.c.user == evidence.c.user)
            & (events.c.id == evidence.c.event),
        )
        .where(
            of_owner(evidence),
            evidence.c.fact.in_(some),
            events.c.id.not_in(bindparam("deleted", expanding=True)),
        )
    )
    first, last = connection.execute(left, {**these, "deleted": list(ids)}).one()
    if first is not None:
        connection.execute(sql.enqueue, [waiting_job(owner, FACT_JOB, first, last, at)])
    connection.execute(delete(evidence).where(of_owner(evidence), evidence.c.fact.in_(some)), these)
    connection.execute(delete(facts).where(of_owner(facts), facts.c.id.in_(some)), these)
    reopened = connection.execute(
        update(facts)
        .where(of_owner(facts), facts.c.superseded_by.in_(some))
        .values(valid_until=None, superseded_by=None),
        these,
    )
    count_fact_write(connection, owner)
    return replace(
        done,
        facts_deleted=done.facts_deleted + len(gone),
        facts_reopened=done.facts_reopened + reopened.rowcount,
        facts_to_derive=done.facts_to_derive + (first is not None),
    )


def _release_lines(connection: Connection, owner: Owner, ids: frozenset[str]) -> tuple[int, int]:
    """Take these events out of all persona versions; return the lines dropped and rebased."""
    query = select(personas.c.version, personas.c.note, personas.c.document).where(
        of_owner(personas)
    )
    total = [0, 0]
    for version, note, text in connection.execute(query, key(owner)).all():
        document = json.loads(text)
        lines = document.get("lines") if isinstance(document, dict) else None
        if not lines:
            continue
        kept, dropped, rebased = _without(lines, ids)
        if not dropped and not rebased:
            continue
        total[0] += dropped
        total[1] += rebased
        flag = f"evidence was deleted: {dropped} lines dropped, {rebased} rest on less"
        document["lines"], document["note"] = kept, f"{note}; {flag}" if note else flag
        connection.execute(
            update(personas)
            .where(of_owner(personas), personas.c.version == version)
            .values(document=json.dumps(document, ensure_ascii=False), note=document["note"]),
            key(owner),
        )
    return total[0], total[1]


def _without(
    lines: Sequence[dict[str, Any]], ids: frozenset[str]
) -> tuple[list[dict[str, Any]], int, int]:  # Any: a persona's lines, as JSON
    kept: list[dict[str, Any]] = []
    dropped = rebased = 0
    for line in lines:
        proof = [one for one in line.get("evidence", ()) if one not in ids]
        if len(proof) == len(line.get("evidence", ())):
            kept.append(line)
        elif (
            line.get("locked")
            or line.get("origin") == "user"
            or (proof and line.get("origin") not in BY_A_MODEL)
        ):
            kept.append({**line, "evidence": proof})
            rebased += 1
        else:
            dropped += 1
    return kept, dropped, rebased


def count_rows(connection: Connection, owner: Owner) -> dict[str, int]:
    """Return how many rows each table has about a user."""
    counts: dict[str, int] = {}
    for table in OF_USER:
        query = select(func.count()).select_from(table).where(of_owner(table))
        counts[table.name] = int(connection.execute(query, key(owner)).scalar_one())
    counts["adapters"] = len(touching(connection, owner))
    return counts


def erase(connection: Connection, sql: Statements, owner: Owner, at: int) -> dict[str, int]:
    """Delete every row about a user and leave a tombstone; return how many rows went.

    Of a user of whom there was nothing, no tombstone is left.
    """
    counts = count_rows(connection, owner)
    discard(connection, owner[0], touching(connection, owner), at)
    for statement in sql.forget:
        connection.execute(statement, key(owner))
    if any(counts.values()):
        subject = pseudonym(connection, owner)
        connection.execute(delete(tombstones).where(tombstones.c.id == subject))
        row = {"id": subject, "at": at, "receipt": json.dumps(counts)}
        connection.execute(insert(tombstones), row)
    return counts


def pseudonym(connection: Connection, owner: Owner) -> str:
    """Return the name under which a tombstone keeps a user: a hash under this database's own key.

    In a write transaction, since the key is made when it is first needed.
    """
    query = select(meta.c.value).where(meta.c.key == TOMBSTONE_KEY)
    secret = connection.execute(query).scalar()
    if secret is None:
        secret = secrets.token_hex(32)
        connection.execute(insert(meta), {"key": TOMBSTONE_KEY, "value": secret})
    return hashed(secret, owner)


def hashed(secret: str, owner: Owner) -> str:
    """Return the hash of a user under a database's key: 32 hexadecimal digits."""
    name = json.dumps(owner).encode()
    return hmac.new(bytes.fromhex(secret), name, hashlib.sha256).hexdigest()[:32]


def forgotten_at(connection: Connection, owner: Owner) -> int | None:
    """Return when a user was forgotten, in microseconds; None if that never happened."""
    return forgotten_of(connection, [owner]).get(owner)


def forgotten_of(connection: Connection, owners: Sequence[Owner]) -> dict[Owner, int]:
    """Return when each of these users was forgotten who was, in microseconds."""
    secret = connection.execute(select(meta.c.value).where(meta.c.key == TOMBSTONE_KEY)).scalar()
    if secret is None:
        return {}
    ids = {hashed(secret, owner): owner for owner in owners}
    query = select(tombstones.c.id, tombstones.c.at).where(tombstones.c.id.in_(list(ids)))
    return {ids[row.id]: row.at for row in connection.execute(query)}

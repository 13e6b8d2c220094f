"""Writing: the statements, and what one transaction gathers before it runs them."""

from __future__ import annotations

import secrets
from typing import TypeAlias, cast

import numpy as np
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from persona_agent.memory.prepared import Prepared
from persona_agent.memory.rows import Added, Owner, Row, decide, pack_content, to_interaction
from persona_agent.memory.schema import (
    adapter_events,
    alignments,
    api_keys,
    changes,
    events,
    evidence,
    fact_vectors,
    facts,
    jobs,
    operations,
    personas,
    receipts,
    retrievals,
    summaries,
    summary_events,
    summary_parts,
    users,
    vectors,
)
from persona_agent.memory.screen import TRUST, Trust
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.types import FloatArray, Role

Ref: TypeAlias = tuple[str, str, str]

CHANGED = ("query", "response", "outcome", "item", "options", "metadata", "hash")


# All that is kept about a user, in an order in which it can be deleted.
OF_USER = (
    adapter_events,
    api_keys,
    operations,
    receipts,
    jobs,
    evidence,
    fact_vectors,
    facts,
    summary_parts,
    summary_events,
    summaries,
    alignments,
    personas,
    changes,
    retrievals,
    vectors,
    events,
    users,
)


class Statements:
    """The statements that write, built once for a dialect."""

    def __init__(self, dialect: str) -> None:
        upsert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        take = upsert(users)
        taken = take.on_conflict_do_update(
            index_elements=[users.c.tenant, users.c.user],
            set_={
                "next_seq": users.c.next_seq + take.excluded.next_seq,
                "event_count": users.c.event_count + take.excluded.event_count,
            },
        ).returning(users.c.next_seq)
        self.take = Prepared(cast(Insert, taken), dialect)
        is_server = dialect == "postgresql"
        self.lock = None
        if is_server:
            self.lock = select(users.c.next_seq).where(of_owner(users)).with_for_update()
        self.count = (
            update(users)
            .where(of_owner(users))
            .values(event_count=users.c.event_count + bindparam("by"))
        )
        enqueue = upsert(jobs)
        first = (jobs.c.first_seq, enqueue.excluded.first_seq)
        last = (jobs.c.last_seq, enqueue.excluded.last_seq)
        self.enqueue = enqueue.on_conflict_do_update(
            index_elements=[jobs.c.tenant, jobs.c.user, jobs.c.kind],
            index_where=text("state = 'waiting'"),  # a bound value would match no index
            set_={
                "first_seq": func.least(*first) if is_server else func.min(*first),
                "last_seq": func.greatest(*last) if is_server else func.max(*last),
            },
        )
        self.receipt = select(receipts.c.hash, receipts.c.answer).where(
            of_owner(receipts), receipts.c.key == bindparam("key_")
        )
        self.repeated = select(events.c.id).where(
            of_owner(events),
            events.c.query == bindparam("query_"),
            events.c.role == bindparam("role_"),
            events.c.id != bindparam("id_"),
        )
        self.insert = Prepared(insert(events), dialect)
        self.log = Prepared(insert(changes), dialect)
        embed = upsert(vectors)
        embedded = embed.on_conflict_do_update(
            index_elements=[c for c in vectors.c if c.name != "vector"],
            set_={"vector": embed.excluded.vector},
        )
        self.embed = Prepared(embedded, dialect)
        this_event = and_(of_owner(events), events.c.id == bindparam("id_"))
        self.update = (
            update(events)
            .where(this_event)
            .values({events.c[name]: bindparam(f"new_{name}") for name in CHANGED})
        )
        embed_fact = upsert(fact_vectors)
        embedded_fact = embed_fact.on_conflict_do_update(
            index_elements=[c for c in fact_vectors.c if c.name != "vector"],
            set_={"vector": embed_fact.excluded.vector},
        )
        self.embed_fact = Prepared(embedded_fact, dialect)
        retrieved = upsert(retrievals)
        counted = retrieved.on_conflict_do_update(
            index_elements=[retrievals.c.tenant, retrievals.c.user, retrievals.c.event],
            set_={
                "times": retrievals.c.times + retrieved.excluded.times,
                "last": retrieved.excluded.last,
            },
        )
        self.retrieved = Prepared(counted, dialect)
        self.delete = delete(events).where(this_event)
        self.drop_vectors = delete(vectors).where(
            of_owner(vectors), vectors.c.event == bindparam("id_")
        )
        self.scrub = (
            update(changes)
            .where(of_owner(changes), changes.c.event == bindparam("id_"))
            .values(old=None)
        )
        self.forget = tuple(delete(table).where(of_owner(table)) for table in OF_USER)
        alignment = upsert(alignments)
        self.alignment = alignment.on_conflict_do_update(
            index_elements=[alignments.c.tenant, alignments.c.user, alignments.c.name],
            set_={"state": alignment.excluded.state, "updated": alignment.excluded.updated},
        )
        self.drop_alignment = delete(alignments).where(
            of_owner(alignments), alignments.c.name == bindparam("name_")
        )


class Batch:
    """The rows that one transaction will write, gathered so that each table takes one statement."""

    def __init__(self, at: int, embedder: str | None, trust: Trust | None = None) -> None:
        self._at = at
        self._trust = trust
        self._embedder = embedder
        self._inserts: dict[Ref, Row] = {}
        self._updates: dict[Ref, Row] = {}
        self._unembedded: set[Ref] = set()
        self._vectors: dict[Ref, dict[str, object]] = {}
        self._changes: list[Row] = []

    def add(self, stored: dict[str, Row], row: Row, blob: bytes | None, seq: int) -> Added:
        """Take in one row to add; `stored` holds its user's rows by id, and is brought up to date."""
        event_id = str(row["id"])
        before = stored.get(event_id)
        added, whole = decide(before, row)
        if added.event == "ADD":
            trust = self._trust or TRUST[cast(Role, row["role"])]
            whole = {**whole, "seq": seq, "created": self._at, "trust": trust}
            self._inserts[_ref(whole)] = whole
            if blob is not None:
                self.embed(whole, blob)
            self.log(whole, "ADD", seq, None)
        elif added.event == "UPDATE" and before is not None:
            if to_interaction(row).text != to_interaction(whole).text:
                blob = None  # it was made from a part of the text
            self.change(before, whole, blob, seq)
        stored[event_id] = whole
        return added

    def change(self, before: Row, after: Row, blob: bytes | None, seq: int) -> None:
        """Take in the change of a row."""
        ref = _ref(after)
        if ref in self._inserts:
            self._inserts[ref] = after
        else:
            self._updates[ref] = after
        if to_interaction(before).text != to_interaction(after).text:
            self._vectors.pop(ref, None)
            self._unembedded.add(ref)
        if blob is not None:
            self.embed(after, blob)
        self.log(after, "UPDATE", seq, pack_content(before))

    def embed(self, row: Row, blob: bytes) -> None:
        """Take in a vector of a row."""
        tenant, user, event_id = ref = _ref(row)
        self._vectors[ref] = {
            "tenant": tenant,
            "user": user,
            "event": event_id,
            "embedder": self._embedder,
            "vector": blob,
        }

    def log(self, row: Row, action: str, seq: int, old: str | None) -> None:
        """Take in a line of the log."""
        tenant, user, event_id = _ref(row)
        self._changes.append(
            {
                "tenant": tenant,
                "user": user,
                "seq": seq,
                "event": event_id,
                "action": action,
                "at": self._at,
                "old": old,
            }
        )

    def write(self, connection: Connection, sql: Statements) -> None:
        """Write everything taken in."""
        if self._inserts:
            sql.insert.run(connection, list(self._inserts.values()))
        if self._updates:
            rows = [
                {**key(ref[:2]), "id_": ref[2], **{f"new_{name}": row[name] for name in CHANGED}}
                for ref, row in self._updates.items()
            ]
            connection.execute(sql.update, rows)
        if self._unembedded:
            connection.execute(
                sql.drop_vectors, [{**key(ref[:2]), "id_": ref[2]} for ref in self._unembedded]
            )
        if self._vectors:
            sql.embed.run(connection, list(self._vectors.values()))
        if self._changes:
            sql.log.run(connection, self._changes)


def count_fact_write(connection: Connection, owner: Owner) -> None:
    """Let caches know that a user's facts are not what they were."""
    change = update(users).where(of_owner(users)).values(fact_seq=users.c.fact_seq + 1)
    connection.execute(change, key(owner))


def waiting_job(owner: Owner, kind: str, first: int, last: int, at: int) -> Row:
    """Return the row of a job about a user's writes from `first` to `last`."""
    return {
        "tenant": owner[0],
        "user": owner[1],
        "id": secrets.token_hex(8),
        "kind": kind,
        "first_seq": first,
        "last_seq": last,
        "state": "waiting",
        "attempts": 0,
        "due": at,
        "created": at,
    }


def blobs_of(array: FloatArray | None, embedder: str | None, count: int) -> list[bytes] | None:
    """Return the bytes of each of `count` vectors; None if there are none.

    Raises ValueError for another number of vectors, no name of the embedder, or values that are
    not finite.
    """
    if array is None:
        return None
    if not embedder:
        raise ValueError("vectors are given but the embedder's name is not; give embedder=")
    if array.ndim != 2 or array.shape[0] != count or array.shape[1] == 0:
        raise ValueError(f"vectors have shape {array.shape}; they must have shape ({count}, dim)")
    if not np.isfinite(array).all():
        raise ValueError("vectors hold values that are not finite; they must be numbers")
    exact = np.ascontiguousarray(array, "<f4")
    return [row.tobytes() for row in exact]


def _ref(row: Row) -> Ref:
    return str(row["tenant"]), str(row["user"]), str(row["id"])

"""Facts in the store: as of a time, writing a merge and vectors, and the job that extracts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from persona_agent.drive import Ports, run
from persona_agent.memory.fact_reading import read_facts
from persona_agent.memory.facts import Merge, extract, merge
from persona_agent.memory.jobs import Commit, Handler, Job
from persona_agent.memory.rows import Owner, microseconds, owner_of, to_interaction
from persona_agent.memory.schema import changes, events, evidence, facts
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.store import Store
from persona_agent.memory.writing import blobs_of, count_fact_write
from persona_agent.ports import LLM
from persona_agent.program import salted
from persona_agent.sensitive import WordLists
from persona_agent.types import Fact, FloatArray, Interaction, Scope

JOB = "facts"

_WRITTEN = (
    select(changes.c.event)
    .where(
        of_owner(changes),
        changes.c.seq >= bindparam("first"),
        changes.c.seq <= bindparam("last"),
        changes.c.action.in_(["ADD", "UPDATE"]),
    )
    .distinct()
)
_TRUSTED = (
    select(events)
    .where(
        of_owner(events),
        events.c.role == "user",
        events.c.trust == "user",
        events.c.id.in_(bindparam("ids", expanding=True)),
    )
    .order_by(events.c.when, events.c.seq)
)


def facts_of(store: Store, scope: Scope, as_of: datetime | None = None) -> list[Fact]:
    """Return the facts that hold about a user now, or that held at a time, oldest first."""
    every = all_facts(store, scope)
    if as_of is None:
        return [one for one in every if one.valid_until is None]
    return [one for one in every if one.holds(as_of)]


def all_facts(store: Store, scope: Scope) -> list[Fact]:
    """Return all facts about a user, those that hold no more too, oldest first."""
    with store.database.read() as connection:
        return read_facts(connection, owner_of(scope))


def write_merge(connection: Connection, owner: Owner, found: Merge, now: datetime) -> None:
    """Write what a merge says, in the connection's transaction."""
    if not (found.new or found.closed or found.repeated):
        return
    count_fact_write(connection, owner)
    whose = {"tenant": owner[0], "user": owner[1]}
    if found.new:
        connection.execute(
            insert(facts),
            [{**whose, **_row(one), "created": microseconds(now)} for one in found.new],
        )
    pairs = [(one.id, event) for one in found.new for event in one.evidence]
    if pairs or found.repeated:
        rows = [
            {**whose, "fact": fact, "event": event} for fact, event in [*pairs, *found.repeated]
        ]
        connection.execute(insert(evidence), rows)
    for one in found.closed:
        change = update(facts).where(of_owner(facts), facts.c.id == one.id)
        row = _row(one)
        connection.execute(
            change.values(valid_until=row["valid_until"], superseded_by=row["superseded_by"]),
            key(owner),
        )


def put_fact_vectors(
    store: Store, scope: Scope, some: Sequence[Fact], vectors: FloatArray, embedder: str
) -> int:
    """Store the vectors of facts; return how many. A fact that is gone meanwhile gets none."""
    owner = owner_of(scope)
    blobs = blobs_of(vectors, embedder, len(some)) or []
    with store.database.write() as connection:
        store.lock(connection, owner)
        there = {one.id for one in read_facts(connection, owner)}
        whose = {"tenant": owner[0], "user": owner[1], "embedder": embedder}
        rows = [
            {**whose, "fact": one.id, "vector": blob}
            for one, blob in zip(some, blobs, strict=True)
            if one.id in there
        ]
        if rows:
            store.sql.embed_fact.run(connection, rows)
            count_fact_write(connection, owner)
    return len(rows)


def fact_job(
    llm: LLM,
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
    salt: Callable[[Scope], str | None] = lambda scope: None,
) -> Handler:
    """Return the handler of jobs of the kind "facts": extract facts from what was written.

    Only the user's own words are read, as they are when the job runs. `sensitive` lets facts of
    sensitive categories in; `words` are the lists that say what is sensitive; `salt`
    names the prefix cache of a user's prompts.
    """

    def work(store: Store, job: Job) -> Commit:
        owner = owner_of(job.scope)
        with store.database.read() as connection:
            written = _written(connection, owner, job)
            known = [one for one in read_facts(connection, owner) if one.valid_until is None]
        program = extract(written, known, sensitive=sensitive, words=words)
        found = run(salted(program, salt(job.scope)), Ports(llm))

        def commit(connection: Connection) -> None:
            # The user's row is locked now: what was read before the model was asked is read again,
            # and evidence that was changed or deleted meanwhile counts no more.
            before = {one.id: one for one in written}
            there = {
                one.id: one for one in _written(connection, owner, job) if before.get(one.id) == one
            }
            result = merge(read_facts(connection, owner), found.drafts, there)
            write_merge(connection, owner, result, datetime.now(UTC))

        return commit

    return work


def _written(connection: Connection, owner: Owner, job: Job) -> list[Interaction]:
    span = {**key(owner), "first": job.first_seq, "last": job.last_seq}
    ids = list(connection.execute(_WRITTEN, span).scalars())
    found: list[Interaction] = []
    for start in range(0, len(ids), 1000):
        rows = connection.execute(_TRUSTED, {**key(owner), "ids": ids[start : start + 1000]})
        found.extend(to_interaction(dict(row)) for row in rows.mappings())
    return sorted(found, key=lambda one: one.when)


def _row(one: Fact) -> dict[str, object]:
    return {
        "id": one.id,
        "kind": one.kind,
        "text": one.text,
        "confidence": one.confidence,
        "valid_from": microseconds(one.valid_from),
        "valid_until": None if one.valid_until is None else microseconds(one.valid_until),
        "superseded_by": one.superseded_by,
    }

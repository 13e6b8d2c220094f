"""Reading facts from the store, with their evidence in the order of events, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, RowMapping, bindparam, select

from persona_agent.memory.rows import Owner, time_of
from persona_agent.memory.schema import events, evidence, fact_vectors, facts
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.types import Fact, FloatArray

_FACTS = select(facts).where(of_owner(facts)).order_by(facts.c.valid_from, facts.c.id)
_EVIDENCE = (
    select(evidence.c.fact, evidence.c.event)
    .join(
        events,
        (events.c.tenant == evidence.c.tenant)
        & (events.c.user == evidence.c.user)
        & (events.c.id == evidence.c.event),
    )
    .where(of_owner(evidence))
    .order_by(events.c.when, events.c.seq)
)
_VECTORS = select(fact_vectors.c.fact, fact_vectors.c.vector).where(
    of_owner(fact_vectors), fact_vectors.c.embedder == bindparam("embedder_")
)


def read_facts(connection: Connection, owner: Owner) -> list[Fact]:
    """Return all facts about a user, oldest first."""
    proof: dict[str, list[str]] = {}
    for fact, event in connection.execute(_EVIDENCE, key(owner)):
        proof.setdefault(fact, []).append(event)
    rows = connection.execute(_FACTS, key(owner)).mappings()
    return [_fact(row, proof.get(row["id"], ())) for row in rows]


def read_fact_vectors(connection: Connection, owner: Owner, embedder: str) -> dict[str, FloatArray]:
    """Return the vectors of a user's facts by this embedder, by fact."""
    rows = connection.execute(_VECTORS, {**key(owner), "embedder_": embedder}).all()
    return {row.fact: np.frombuffer(row.vector, "<f4") for row in rows}


def _fact(row: RowMapping, proof: Sequence[str]) -> Fact:
    return Fact(
        row["id"],
        row["kind"],
        row["text"],
        tuple(proof),
        row["confidence"],
        time_of(row["valid_from"]),
        None if row["valid_until"] is None else time_of(row["valid_until"]),
        row["superseded_by"],
    )

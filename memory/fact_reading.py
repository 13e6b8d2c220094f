"""Reading facts from the store, with their evidence in the order of events, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, RowMapping, bindparam, select

from persona_agent.memory.citing import citations, gathered
from persona_agent.memory.rows import Owner, time_of
from persona_agent.memory.schema import evidence, fact_vectors, facts
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.types import Fact, FloatArray

_FACTS = select(facts).where(of_owner(facts)).order_by(facts.c.valid_from, facts.c.id)
_EVIDENCE = citations(evidence, evidence.c.fact)
_VECTORS = select(fact_vectors.c.fact, fact_vectors.c.vector).where(
    of_owner(fact_vectors), fact_vectors.c.embedder == bindparam("embedder_")
)


def read_facts(connection: Connection, owner: Owner) -> list[Fact]:
    """Return all facts about a user, oldest first."""
    proof = gathered(connection, _EVIDENCE, owner)
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

"""Generations of vectors: which embedder made those in the store, and how another takes over.

An embedder is known by its fingerprint: its name, its dimension, and the vectors it gives for a
few probe texts, so that another model under the same name is seen, too. The fingerprint of the
active generation is kept with the database; another embedder is refused, with the way out:
`reindex` writes a second generation beside the first while everybody goes on working, and then
switches in one transaction. Stopped at any point, it goes on where it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import numpy as np
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite

from persona_agent.errors import StoreError
from persona_agent.memory.rows import owner_of
from persona_agent.memory.schema import events, fact_vectors, meta, users, vectors
from persona_agent.memory.store import Store
from persona_agent.ports import Embedder
from persona_agent.types import FloatArray, Record, Scope

PROBES = (
    "I loved this comedy, it made me laugh.",
    "How do I file my income tax return?",
    "映画が好きです。",
    "def total(rows): return sum(rows)",
)
ALIKE = 0.995  # cosine of probes; other processors round otherwise, other models are far below
ACTIVE = "embedder"
NEXT = "embedder_next"
SOME = 512  # texts embedded between two commits
Key = tuple[str, str, str]


class EmbedderChanged(StoreError):
    """The vectors in the database were made by another embedder."""


@dataclass(frozen=True, slots=True)
class Reindexed(Record):
    """What a reindexing did: interactions embedded, and vectors of other embedders removed."""

    embedder: str
    embedded: int
    removed: int


@dataclass(frozen=True)
class Fingerprint:
    """What an embedder is known by, and the label under which the store keeps its vectors."""

    name: str
    dim: int
    probes: FloatArray
    label: str = ""

    @classmethod
    def of(cls, embedder: Embedder) -> Self:
        """Return the fingerprint of an embedder; it embeds the probes."""
        return cls(embedder.name, embedder.dim, np.asarray(embedder.embed(PROBES), np.float32))

    @property
    def digest(self) -> str:
        """The fingerprint in 12 letters, for people and labels."""
        rounded = self.probes.round(2) + 0.0
        text = f"{self.name}\n{self.dim}\n".encode() + rounded.astype("<f4").tobytes()
        return hashlib.sha256(text).hexdigest()[:12]

    def is_of(self, other: Fingerprint) -> bool:
        """Return whether both are of one embedder: one name, and like vectors of the probes."""
        if self.name != other.name or self.probes.shape != other.probes.shape:
            return False
        norms = np.linalg.norm(self.probes, axis=1) * np.linalg.norm(other.probes, axis=1)
        products = (self.probes * other.probes).sum(axis=1)
        return bool((products >= ALIKE * norms).all())

    def pack(self, label: str) -> str:
        """Return this as JSON, with the label of its vectors."""
        probes = base64.b64encode(self.probes.astype("<f2").tobytes()).decode()
        kept = {"label": label, "name": self.name, "dim": self.dim, "digest": self.digest}
        return json.dumps({**kept, "probes": probes})

    @classmethod
    def unpack(cls, text: str) -> Self:
        """Return what `pack` made."""
        kept = json.loads(text)
        flat = np.frombuffer(base64.b64decode(kept["probes"]), "<f2").astype(np.float32)
        return cls(kept["name"], kept["dim"], flat.reshape(len(PROBES), -1), kept["label"])

    def __str__(self) -> str:
        return f"{self.name} ({self.dim} dimensions, fingerprint {self.digest})"


def label_of(store: Store, embedder: Embedder) -> str:
    """Return the label that the store keeps this embedder's vectors under.

    The first embedder of a database becomes its own. Raises EmbedderChanged for another one.
    """
    mine = Fingerprint.of(embedder)
    with store.database.read() as connection:
        active = _kept(connection, ACTIVE)
    if active is None:
        with store.database.write() as connection:
            active = _kept(connection, ACTIVE) or _adopted(connection, mine)
    if active is None or not mine.is_of(active):
        raise EmbedderChanged(
            f"{store.database.place} holds vectors of embedder {active or 'unknown'}; this is "
            f"{mine}. Use the embedder that made them, or make them anew with this one: "
            f"persona-agent --embedder {embedder.name} reindex"
        )
    return active.label


def active_label(store: Store) -> str | None:
    """Return the label of the vectors that the store is searched by; None if it has none yet."""
    with store.database.read() as connection:
        active = _kept(connection, ACTIVE)
    return None if active is None else active.label


def reindex(
    store: Store, embedder: Embedder, *, on_progress: Callable[[int, int], None] | None = None
) -> Reindexed:
    """Make this embedder the one of the database; return what was done.

    Everybody may go on meanwhile: the old vectors serve until all new ones are there. Killed, it
    resumes when it is called again. What lacks a vector gets one, too. `on_progress` is told how
    many interactions are embedded, and how many there are.
    """
    mine = Fingerprint.of(embedder)
    with store.database.write() as connection:
        active = _kept(connection, ACTIVE) or _adopted(connection, mine)
        switching = active is None or not mine.is_of(active)
        label = _begun(connection, mine, active) if switching or active is None else active.label
    embedded = 0
    with store.database.read() as connection:
        count = select(func.count()).select_from(events).where(_lacking(label))
        total = int(connection.execute(count).scalar_one())
    while missing := _some_lacking(store, label, 100 * SOME):  # also what came meanwhile
        for some in (missing[at : at + SOME] for at in range(0, len(missing), SOME)):
            embedded += _embed(store, embedder, label, some)
            if on_progress is not None:
                on_progress(embedded, max(embedded, total))
    if switching:
        with store.database.write() as connection:
            _keep(connection, ACTIVE, mine.pack(label))
            connection.execute(delete(meta).where(meta.c.key == NEXT))
    return Reindexed(mine.name, embedded, _remove_others(store, label))


def _begun(connection: Connection, mine: Fingerprint, active: Fingerprint | None) -> str:
    """Return the label of the generation under way, begun now or by one that was stopped."""
    under_way = _kept(connection, NEXT)
    if under_way is not None and mine.is_of(under_way):
        return under_way.label
    label = f"{mine.name}#{mine.digest}"
    if active is not None and active.label == label:  # probes rounded alike, yet not alike
        label += "'"
    _keep(connection, NEXT, mine.pack(label))
    return label


def _adopted(connection: Connection, mine: Fingerprint) -> Fingerprint | None:
    """Return the fingerprint of a database that has none yet, and keep it; None if not `mine`."""
    found = connection.execute(select(vectors.c.embedder, vectors.c.vector).limit(1)).first()
    if found is not None and (found.embedder != mine.name or len(found.vector) != 4 * mine.dim):
        return None
    _keep(connection, ACTIVE, mine.pack(mine.name), replace=False)
    return _kept(connection, ACTIVE)


def _kept(connection: Connection, key: str) -> Fingerprint | None:
    text = connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
    return None if text is None else Fingerprint.unpack(text)


def _keep(connection: Connection, key: str, value: str, *, replace: bool = True) -> None:
    """Keep a value under a key; without `replace` only if there is none, whoever was faster."""
    made = _upsert(connection, meta).values(key=key, value=value)
    if replace:
        made = made.on_conflict_do_update(index_elements=[meta.c.key], set_={"value": value})
    else:
        made = made.on_conflict_do_nothing()
    connection.execute(made)


def _upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that may say what to do when the row is there."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _lacking(label: str) -> ColumnElement[bool]:
    """Return the condition that an event has no vector of this label."""
    return ~exists().where(
        vectors.c.tenant == events.c.tenant,
        vectors.c.user == events.c.user,
        vectors.c.event == events.c.id,
        vectors.c.embedder == label,
    )


def _some_lacking(store: Store, label: str, most: int) -> list[Key]:
    order = (events.c.tenant, events.c.user, events.c.id)
    query = select(*order).where(_lacking(label)).order_by(*order).limit(most)
    with store.database.read() as connection:
        return [(row.tenant, row.user, row.id) for row in connection.execute(query)]


def _embed(store: Store, embedder: Embedder, label: str, keys: Sequence[Key]) -> int:
    done = 0
    with store.snapshot() as snapshot:
        found = []
        for owner, own in groupby(keys, key=lambda one: one[:2]):
            ids = [one[2] for one in own]
            there = snapshot.rows((owner[0], owner[1]), ids)
            found += snapshot.interactions(
                [((owner[0], owner[1]), one) for one in ids if one in there]
            )
    rows = embedder.embed([one.text for one in found])
    at = 0
    for (tenant, user), same in groupby(found, key=lambda one: owner_of(one.scope)):
        some = list(same)
        done += store.put_vectors(Scope(user, tenant), some, rows[at : at + len(some)], label)
        at += len(some)
    return done


def _remove_others(store: Store, label: str) -> int:
    """Remove the vectors of all other labels, a user at a time; return how many of events.

    Facts are few: they get their vectors when they are next searched.
    """
    with store.database.read() as connection:
        if (
            connection.execute(
                select(vectors.c.user).where(vectors.c.embedder != label).limit(1)
            ).first()
            is None
        ):
            return 0
        owners = connection.execute(select(users.c.tenant, users.c.user)).all()
    removed = 0
    for tenant, user in owners:
        others = and_(
            vectors.c.tenant == tenant, vectors.c.user == user, vectors.c.embedder != label
        )
        others_of_facts = and_(
            fact_vectors.c.tenant == tenant,
            fact_vectors.c.user == user,
            fact_vectors.c.embedder != label,
        )
        with store.database.write() as connection:
            removed += connection.execute(delete(vectors).where(others)).rowcount
            connection.execute(delete(fact_vectors).where(others_of_facts))
    return removed

"""What a reader sees: the database at one moment, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar, cast

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from persona_agent.errors import StoreError, UnknownInteraction
from persona_agent.memory.look_up import glance, look_up
from persona_agent.memory.prepared import DIALECTS, Prepared
from persona_agent.memory.rows import (
    CONTENT,
    Change,
    Owner,
    Row,
    StoredPersona,
    interaction_of,
    owner_of,
    time_of,
    to_interaction,
    unpack_content,
)
from persona_agent.memory.schema import alignments, changes, events, personas, users, vectors
from persona_agent.types import FloatArray, Interaction, Scope

T = TypeVar("T")

CHUNK = 1024  # rows asked for in one statement


@dataclass(frozen=True, slots=True)
class Head:
    """How far a user's writes have come: equal heads mean that no event was written between."""

    epoch: int
    next_seq: int
    event_count: int
    fact_seq: int = field(default=0, compare=False)  # of the facts alone


class Place(NamedTuple):
    """Where an event stands in its user's order, and what narrows a scope to it."""

    id: str
    when: int
    seq: int
    agent: str | None
    run: str | None


def of_owner(table: Table) -> ColumnElement[bool]:
    """Return the condition that a row is of the owner whose `key` is bound."""
    return and_(table.c.tenant == bindparam("tenant_"), table.c.user == bindparam("user_"))


def key(owner: Owner) -> dict[str, object]:
    """Return the values that `of_owner` takes."""
    return {"tenant_": owner[0], "user_": owner[1]}


# Statements are built once: building one costs as much as running it.
_OWN_EVENTS = of_owner(events)
_HEADS = (users.c.epoch, users.c.next_seq, users.c.event_count, users.c.fact_seq)
_EVENT_COLUMNS = tuple(events.c)
_CONTENT = tuple(events.c[name] for name in CONTENT)
_PLACES = select(events.c.id, events.c.when, events.c.seq, events.c.agent, events.c.run)
_EVENT = select(events).where(_OWN_EVENTS, events.c.id == bindparam("id_"))
_HEAD = select(users).where(of_owner(users))
_ORDER = {
    dialect: Prepared(_PLACES.where(_OWN_EVENTS).order_by(events.c.when, events.c.seq), dialect)
    for dialect in DIALECTS
}
_NEWEST = (
    select(events.c.id, *_CONTENT)
    .where(_OWN_EVENTS)
    .order_by(events.c.when.desc(), events.c.seq.desc())
    .limit(bindparam("most"))
    .offset(literal_column("0"))
)
_LATEST = {dialect: Prepared(_NEWEST, dialect) for dialect in DIALECTS}
_SOME_PLACES = _PLACES.where(
    _OWN_EVENTS, events.c.id.in_(bindparam("ids", expanding=True))
).order_by(events.c.when, events.c.seq)
_OWN_VECTORS = and_(of_owner(vectors), vectors.c.embedder == bindparam("embedder"))
_VECTORS = select(vectors.c.event, vectors.c.vector).where(_OWN_VECTORS)
_ALL_VECTORS = {dialect: Prepared(_VECTORS, dialect) for dialect in DIALECTS}
_SOME_VECTORS = _VECTORS.where(vectors.c.event.in_(bindparam("ids", expanding=True)))
_OWN_CHANGES = of_owner(changes)
_CHANGED = (
    select(changes.c.event)
    .where(_OWN_CHANGES, changes.c.seq >= bindparam("since"))
    .limit(bindparam("most"))
)
_HISTORY = (
    select(changes.c.at, changes.c.action, changes.c.old)
    .where(_OWN_CHANGES, changes.c.event == bindparam("id_"), changes.c.action != "EMBED")
    .order_by(changes.c.seq)
)
_OWN_PERSONAS = of_owner(personas)
_PERSONAS = (
    select(
        personas.c.version,
        personas.c.parent,
        personas.c.created,
        personas.c.origin,
        personas.c.note,
        personas.c.document,
        personas.c.scores,
    )
    .where(_OWN_PERSONAS)
    .order_by(personas.c.version.desc())
)
_FIRST = _PERSONAS.limit(literal_column("1")).offset(literal_column("0"))  # no bound values
_LATEST_PERSONA = {dialect: Prepared(_FIRST, dialect) for dialect in DIALECTS}
_PERSONA = _PERSONAS.where(personas.c.version == bindparam("version_"))
_OWN_ALIGNMENTS = of_owner(alignments)
_ALIGNMENT = select(alignments.c.state).where(
    _OWN_ALIGNMENTS, alignments.c.name == bindparam("name_")
)
_ALIGNMENTS = select(alignments.c.name).where(_OWN_ALIGNMENTS)


class Snapshot:
    """The queries of a reader over one connection. Not for two threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """The connection, for other queries of the same moment."""
        return self._connection

    def heads(self, owners: Sequence[Owner]) -> dict[Owner, Head]:
        """Return the head of each owner of whom anything is stored, in one query."""
        found: dict[Owner, Head] = {}
        for place, *numbers in look_up(self._connection, _HEADS, 2, owners):
            found[owners[place]] = Head(*numbers)
        return found

    def order(self, owner: Owner) -> list[Place]:
        """Return the places of all events of an owner, in time order."""
        rows = _ORDER[self._connection.dialect.name].rows(self._connection, key(owner))
        return list(map(Place._make, rows))

    def places(self, owner: Owner, ids: Sequence[str]) -> list[Place]:
        """Return the places of those of these events that exist, in time order."""
        found: list[Place] = []
        for some in _chunks(ids):
            rows = self._connection.execute(_SOME_PLACES, {**key(owner), "ids": some})
            found.extend(Place(*row) for row in rows)
        return sorted(found, key=lambda place: (place.when, place.seq))

    def changed(self, owner: Owner, since: int, most: int) -> list[str]:
        """Return the ids of events written since a head's `next_seq`, repeated if so written.

        At most `most` of them are returned.
        """
        keys = {**key(owner), "since": since, "most": most}
        return list(self._connection.execute(_CHANGED, keys).scalars())

    def vectors(
        self, owner: Owner, embedder: str, ids: Sequence[str] | None = None
    ) -> tuple[list[str], FloatArray]:
        """Return ids and vectors, shape (n, dim), of an owner's events, in no order.

        With `ids`, of those only. Events without a vector of this embedder are left out; with
        none at all the shape is (0, 0). Raises StoreError if the vectors differ in length.
        """
        keys = {**key(owner), "embedder": embedder}
        if ids is None:
            rows = _ALL_VECTORS[self._connection.dialect.name].rows(self._connection, keys)
        else:
            rows = [
                tuple(row)
                for some in _chunks(ids)
                for row in self._connection.execute(_SOME_VECTORS, {**keys, "ids": some}).all()
            ]
        if not rows:
            return [], np.zeros((0, 0), np.float32)
        found, blobs = zip(*rows, strict=True)
        sizes = set(map(len, blobs))
        if len(sizes) > 1:
            raise StoreError(
                f"vectors of user {owner[1]!r} by embedder {embedder!r} have "
                f"{sorted(size // 4 for size in sizes)} dimensions; they must have one length"
            )
        flat = np.frombuffer(b"".join(blobs), "<f4").reshape(len(rows), -1)
        return list(found), flat.astype(np.float32, copy=False)

    def interactions(self, refs: Sequence[tuple[Owner, str]]) -> list[Interaction]:
        """Return these events, in this order, of many owners in one query.

        Raises UnknownInteraction for one that is not there.
        """
        found: list[Interaction | None] = [None] * len(refs)
        for place, *content in look_up(
            self._connection, _CONTENT, 3, [(*owner, event_id) for owner, event_id in refs]
        ):
            owner, event_id = refs[place]
            found[place] = interaction_of(owner, event_id, content)
        for ref, one in zip(refs, found, strict=True):
            if one is None:
                raise unknown(*ref)
        return cast("list[Interaction]", found)

    def rows(self, owner: Owner, ids: Sequence[str]) -> dict[str, Row]:
        """Return the rows of those of these events that exist, by id."""
        names = [column.name for column in _EVENT_COLUMNS]
        keys = [(*owner, event_id) for event_id in dict.fromkeys(ids)]
        return {
            keys[place][2]: dict(zip(names, values, strict=True))
            for place, *values in look_up(self._connection, _EVENT_COLUMNS, 3, keys)
        }

    def row(self, scope: Scope, event_id: str) -> Row:
        """Return the row of an event; raises UnknownInteraction if there is none in this scope."""
        owner = owner_of(scope)
        found = self._connection.execute(_EVENT, {**key(owner), "id_": event_id}).mappings().first()
        if (
            found is None
            or (scope.agent is not None and found["agent"] != scope.agent)
            or (scope.run is not None and found["run"] != scope.run)
        ):
            raise unknown(owner, event_id)
        return dict(found)

    def latest(self, owner: Owner, most: int) -> list[Interaction]:
        """Return the latest events of an owner, at most so many, oldest first."""
        rows = _LATEST[self._connection.dialect.name].rows(
            self._connection, {**key(owner), "most": most}
        )
        return [interaction_of(owner, event_id, content) for event_id, *content in rows[::-1]]

    def find(
        self,
        scope: Scope,
        *,
        before: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        newest_first: bool = False,
        labelled: bool = False,
    ) -> list[Interaction]:
        """Return the events of a scope in time order, those strictly earlier than `before`.

        `labelled` ones are the user's own turns with a known outcome.
        """
        query = _narrowed(select(events), scope)
        if labelled:
            query = query.where(events.c.outcome.is_not(None), events.c.role == "user")
        if before is not None:
            edge = self.row(scope.owner, before)
            query = query.where(
                or_(
                    events.c.when < edge["when"],
                    and_(events.c.when == edge["when"], events.c.seq < edge["seq"]),
                )
            )
        order = (events.c.when, events.c.seq)
        query = query.order_by(*([c.desc() for c in order] if newest_first else order))
        if limit is not None:
            query = query.limit(limit)
        elif offset:
            query = query.limit(2**62)  # SQLite knows no offset without a limit
        rows = self._connection.execute(query.offset(offset) if offset else query, _key_of(scope))
        return [to_interaction(dict(row)) for row in rows.mappings()]

    def count(self, scope: Scope) -> int:
        """Return how many events a scope has."""
        if scope.agent is None and scope.run is None:
            head = self.heads([owner_of(scope)]).get(owner_of(scope))
            return head.event_count if head else 0
        query = _narrowed(select(func.count()).select_from(events), scope)
        return int(self._connection.execute(query, _key_of(scope)).scalar_one())

    def history(self, scope: Scope, event_id: str) -> list[Change]:
        """Return the changes of an event, oldest first."""
        owner = owner_of(scope)
        keys = {**key(owner), "id_": event_id}
        logged = list(self._connection.execute(_HISTORY, keys))
        if not logged:
            raise unknown(owner, event_id)
        new = None
        if logged[-1].action != "DELETE":
            new = to_interaction(self.row(scope, event_id))
        told: list[Change] = []
        for one in reversed(logged):
            old = unpack_content(one.old, owner, event_id) if one.old is not None else None
            gone = one.action == "DELETE"
            told.append(Change(time_of(one.at), one.action, old, None if gone else new))
            new = old
        return told[::-1]

    def users(self, tenant: str) -> list[str]:
        """Return the users of a tenant, sorted."""
        query = select(users.c.user).where(users.c.tenant == tenant)
        return sorted(self._connection.execute(query).scalars())

    def persona(self, scope: Scope, version: int | None = None) -> StoredPersona | None:
        """Return a persona version, by default the latest; None if there is none."""
        if version is None:
            latest = _LATEST_PERSONA[self._connection.dialect.name]
            row = next(iter(latest.rows(self._connection, _key_of(scope))), None)
        else:
            keys = {**_key_of(scope), "version_": version}
            row = self._connection.execute(_PERSONA, keys).first()
        return None if row is None else _stored_persona(row)

    def personas(self, scope: Scope) -> list[StoredPersona]:
        """Return all persona versions of a user, latest first."""
        rows = self._connection.execute(_PERSONAS, _key_of(scope))
        return [_stored_persona(row) for row in rows]

    def alignment(self, scope: Scope, name: str) -> str | None:
        """Return the saved state of an alignment; None if there is none."""
        keys = {**_key_of(scope), "name_": name}
        state: str | None = self._connection.execute(_ALIGNMENT, keys).scalar()
        return state

    def alignments(self, scope: Scope) -> list[str]:
        """Return the keys of a user's saved alignments, sorted."""
        return sorted(self._connection.execute(_ALIGNMENTS, _key_of(scope)).scalars())


def seen_at_once(
    connection: Connection, owner: Owner, ids: Sequence[str]
) -> tuple[Head, dict[str, Interaction]] | None:
    """Return an owner's head and those of these events that exist, by one statement.

    None if nothing of the owner is stored.
    """
    rows = glance(connection, _HEADS, _CONTENT, owner, ids)
    if not rows:
        return None
    width = len(_HEADS)
    there = {
        row[width]: interaction_of(owner, row[width], row[width + 1 :])
        for row in rows
        if row[width] is not None
    }
    return Head(*rows[0][:width]), there


def unknown(owner: Owner, event_id: str) -> UnknownInteraction:
    """Return the error for an event that is not there."""
    return UnknownInteraction(
        f"no interaction {event_id!r} is stored for user {owner[1]!r} of tenant {owner[0]!r}"
    )


def _narrowed(query: Select[T], scope: Scope) -> Select[T]:
    query = query.where(_OWN_EVENTS)
    if scope.agent is not None:
        query = query.where(events.c.agent == scope.agent)
    if scope.run is not None:
        query = query.where(events.c.run == scope.run)
    return query


def _stored_persona(row: Sequence[object]) -> StoredPersona:
    version, parent, created, *rest = row
    return StoredPersona(version, parent, time_of(created), *rest)  # type: ignore[arg-type]  # a row is untyped


def _key_of(scope: Scope) -> dict[str, object]:
    return key(owner_of(scope))


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, CHUNK)):
        yield some

"""Adapters as rows: what each was made of, and what goes with its source.

`adapters` says that one is there, `adapter_events` of which events it was made. What ceases to
be, because it was replaced or because a source of it goes, leaves its folder's name among the
`leftovers` in the same transaction, so that no crash can keep its files from being removed. An
adapter that began with another's weights holds what that one was made of: it goes with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, select, update

from persona_agent.errors import UnknownUser
from persona_agent.memory.rows import Owner, microseconds, time_of
from persona_agent.memory.schema import adapter_events, adapters, events, leftovers
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.types import Json, Record

CHUNK = 500
MAKING, READY = "making", "ready"


@dataclass(frozen=True, slots=True)
class Source(Record):
    """An event that an adapter was made of, and the hash of its content at that time."""

    user: str
    event: str
    hash: str


@dataclass(frozen=True, slots=True)
class Adapter(Record):
    """An adapter: its name, which is also its folder's, and where it comes from.

    `user` is None for one of a cohort. `base` and `base_hash` name the model that it adapts,
    `start` the adapter that it began with. `scores` is what held-out interactions say of it.
    `digest` is a hash of its weights, empty while it is being made.
    """

    name: str
    tenant: str
    user: str | None
    method: str
    base: str
    base_hash: str
    created: datetime
    start: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    scores: Mapping[str, Json] = field(default_factory=dict)
    digest: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it can be used."""
        return bool(self.digest)

    def __str__(self) -> str:
        whose = "a cohort" if self.user is None else self.user
        return f"{self.name}: {self.method} of {whose}, {self.created:%Y-%m-%d %H:%M}Z"


def finish(connection: Connection, adapter: Adapter) -> list[str]:
    """Note in a transaction that an adapter is ready; return the names of those it replaces.

    Raises UnknownUser if it is gone: a source of it was deleted or forgotten meanwhile.
    """
    row = row_of(adapter, READY)
    mine = (adapters.c.tenant == adapter.tenant) & (adapters.c.name == adapter.name)
    if not connection.execute(update(adapters).where(mine).values(row)).rowcount:
        raise UnknownUser(
            f"what adapter {adapter.name} was made of was forgotten, or is made anew by another; "
            "it is not kept"
        )
    older = select(adapters.c.name).where(
        adapters.c.tenant == adapter.tenant,
        adapters.c.user.is_(None) if adapter.user is None else adapters.c.user == adapter.user,
        adapters.c.method == adapter.method,
        adapters.c.name != adapter.name,
        adapters.c.state == READY,
        adapters.c.base_hash == adapter.base_hash,
    )
    # a cohort's is the beginning of others: it stays until nothing rests on it
    based = select(adapters.c.start).where(adapters.c.start.is_not(None))
    names = list(connection.execute(older.where(adapters.c.name.not_in(based))).scalars())
    return discard(connection, adapter.tenant, names, microseconds(adapter.created))


def hashes_of(connection: Connection, owner: Owner, ids: Sequence[str]) -> dict[str, str]:
    """Return the content hashes of those of these events that are there."""
    some: BindParameter[str] = bindparam("ids", expanding=True)
    query = select(events.c.id, events.c.hash).where(of_owner(events), events.c.id.in_(some))
    found: dict[str, str] = {}
    for start in range(0, len(ids), CHUNK):
        rows = connection.execute(query, {**key(owner), "ids": list(ids[start : start + CHUNK])})
        found.update((row.id, row.hash) for row in rows)
    return found


def touching(connection: Connection, owner: Owner, ids: Sequence[str] | None = None) -> list[str]:
    """Return the names of adapters made of a user's events, or of these, and what began with them."""
    query = select(adapter_events.c.adapter).where(of_owner(adapter_events)).distinct()
    found: set[str] = set()
    if ids is None:
        own = select(adapters.c.name).where(of_owner(adapters))
        for each in (query, own):
            found |= set(connection.execute(each, key(owner)).scalars())
    else:
        some: BindParameter[str] = bindparam("ids", expanding=True)
        narrow = query.where(adapter_events.c.event.in_(some))
        for start in range(0, len(ids), CHUNK):
            keys = {**key(owner), "ids": list(ids[start : start + CHUNK])}
            found |= set(connection.execute(narrow, keys).scalars())
    return _with_descendants(connection, owner[0], found)


def discard(connection: Connection, tenant: str, names: Sequence[str], at: int) -> list[str]:
    """Delete adapters and what began with them; their folders become leftovers. Returns names."""
    gone = _with_descendants(connection, tenant, set(names))
    for name in gone:
        mine = (adapters.c.tenant == tenant) & (adapters.c.name == name)
        if connection.execute(delete(adapters).where(mine)).rowcount:
            connection.execute(delete(leftovers).where(leftovers.c.folder == name))
            connection.execute(insert(leftovers), {"folder": name, "since": at})
    return gone


def problems(connection: Connection) -> Iterator[str]:
    """Give the adapters whose sources are not what they were, and files that should be gone."""
    query = (
        select(adapters.c.tenant, adapters.c.name)
        .outerjoin(
            adapter_events,
            (adapter_events.c.tenant == adapters.c.tenant)
            & (adapter_events.c.adapter == adapters.c.name),
        )
        .group_by(adapters.c.tenant, adapters.c.name)
        .having(func.count(adapter_events.c.event) == 0)
    )
    for tenant, name in connection.execute(query):
        yield f"adapter {name} of tenant {tenant!r} names nothing that it was made of"
    lost = (
        select(adapter_events.c.adapter)
        .outerjoin(
            events,
            (events.c.tenant == adapter_events.c.tenant)
            & (events.c.user == adapter_events.c.user)
            & (events.c.id == adapter_events.c.event),
        )
        .where(events.c.id.is_(None))
        .distinct()
    )
    for name in connection.execute(lost).scalars():
        yield f"adapter {name} was made of an event that is not there"
    for name in connection.execute(select(leftovers.c.folder)).scalars():
        yield f"the files of adapter {name} should be gone: forget again, or open with its folder"


def row_of(adapter: Adapter, state: str) -> dict[str, object]:
    return {
        "tenant": adapter.tenant,
        "name": adapter.name,
        "user": adapter.user,
        "method": adapter.method,
        "base": adapter.base,
        "base_hash": adapter.base_hash,
        "start": adapter.start,
        "options": json.dumps(dict(adapter.options), sort_keys=True),
        "scores": json.dumps(dict(adapter.scores), sort_keys=True),
        "digest": adapter.digest,
        "state": state,
        "created": microseconds(adapter.created),
    }


def adapter_of(row: Mapping[str, Any]) -> Adapter:  # Any: of the types in the schema
    fields = {name: row[name] for name in ("name", "tenant", "user", "method", "base", "base_hash")}
    return Adapter(
        **fields,
        created=time_of(row["created"]),
        start=row["start"],
        options=json.loads(row["options"]),
        scores=json.loads(row["scores"]),
        digest=row["digest"],
    )


def _with_descendants(connection: Connection, tenant: str, names: set[str]) -> list[str]:
    found, new = set(names), set(names)
    while new:
        query = select(adapters.c.name).where(
            adapters.c.tenant == tenant, adapters.c.start.in_(sorted(new))
        )
        new = set(connection.execute(query).scalars()) - found
        found |= new
    return sorted(found)

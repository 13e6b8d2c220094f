"""Adapters in the store: begun and listed; see `adapter_rows` for how they are made and go."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from persona_agent.errors import StoreError
from persona_agent.memory.adapter_rows import (
    MAKING,
    READY,
    Adapter,
    Source,
    adapter_of,
    discard,
    hashes_of,
    row_of,
)
from persona_agent.memory.rows import Owner, microseconds
from persona_agent.memory.schema import adapter_events, adapters, leftovers
from persona_agent.memory.store import Store


def begin(store: Store, adapter: Adapter, sources: Sequence[Source]) -> None:
    """Note that an adapter is being made, and of what, so that forgetting reaches it from now on.

    Raises StoreError if a source is not there as it was read: read again.
    """
    with store.database.write() as connection:
        by_user: dict[str, list[Source]] = {}
        for one in sources:
            by_user.setdefault(one.user, []).append(one)
        for user in sorted(by_user):
            store.lock(connection, (adapter.tenant, user))
            _check(connection, (adapter.tenant, user), by_user[user])
        if adapter.start is not None and not _is_there(connection, adapter.tenant, adapter.start):
            raise StoreError(f"the adapter {adapter.start!r} to begin with is gone; make it again")
        discard(connection, adapter.tenant, [adapter.name], microseconds(adapter.created))
        connection.execute(delete(leftovers).where(leftovers.c.folder == adapter.name))
        connection.execute(insert(adapters), row_of(adapter, MAKING))
        rows = [
            {"tenant": adapter.tenant, "user": one.user, "adapter": adapter.name}
            | {"event": one.event, "hash": one.hash}
            for one in sources
        ]
        if rows:
            connection.execute(insert(adapter_events), rows)


def adapters_of(
    store: Store, tenant: str, user: str | None = None, *, cohort: bool = False
) -> list[Adapter]:
    """Return the ready adapters of a tenant, newest first: of all, of a user, or of cohorts."""
    query = select(adapters).where(adapters.c.tenant == tenant, adapters.c.state == READY)
    if user is not None:
        query = query.where(adapters.c.user == user)
    elif cohort:
        query = query.where(adapters.c.user.is_(None))
    ordered = query.order_by(adapters.c.created.desc(), adapters.c.name)
    with store.database.read() as connection:
        return [adapter_of(dict(row)) for row in connection.execute(ordered).mappings()]


def sources_of(store: Store, adapter: Adapter) -> list[Source]:
    """Return what an adapter was made of, by user and event."""
    query = (
        select(adapter_events.c.user, adapter_events.c.event, adapter_events.c.hash)
        .where(adapter_events.c.tenant == adapter.tenant, adapter_events.c.adapter == adapter.name)
        .order_by(adapter_events.c.user, adapter_events.c.event)
    )
    with store.database.read() as connection:
        return [Source(*row) for row in connection.execute(query)]


def _check(connection: Connection, owner: Owner, sources: Sequence[Source]) -> None:
    there = hashes_of(connection, owner, [one.event for one in sources])
    for one in sources:
        if there.get(one.event) != one.hash:
            what = "was changed" if one.event in there else "is gone"
            raise StoreError(f"event {one.event!r} of user {one.user!r} {what}; train again")


def _is_there(connection: Connection, tenant: str, name: str) -> bool:
    mine = (adapters.c.tenant == tenant) & (adapters.c.name == name) & (adapters.c.state == READY)
    return connection.execute(select(adapters.c.name).where(mine)).first() is not None

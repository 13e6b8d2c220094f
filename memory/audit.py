"""The audit: what stands in the store that should not, or need not; and the store's figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from persona_agent.memory.rows import Owner, microseconds, to_interaction
from persona_agent.memory.schema import TABLES, events, jobs, retrievals
from persona_agent.memory.screen import BOILERPLATE, Screen, is_small_talk, screened
from persona_agent.memory.snapshot import key
from persona_agent.memory.store import Store
from persona_agent.memory.summary_rows import release_summaries
from persona_agent.types import Interaction, Record, Scope


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """Something that an audit found: in which event, of which kind."""

    tenant: str
    user: str
    event: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.event} of user {self.user} (tenant {self.tenant})"


@dataclass(frozen=True, slots=True)
class Stats(Record):
    """How many rows each table has, and how many jobs there are in each state."""

    rows: dict[str, int]
    jobs: dict[str, int]

    def __str__(self) -> str:
        lines = [f"{name:<14} {count}" for name, count in self.rows.items()]
        return "\n".join(
            [*lines, *(f"jobs {name:<9} {count}" for name, count in self.jobs.items())]
        )


def audit(store: Store, tenant: str | None = None) -> Iterator[Finding]:
    """Give what is found in all events, user by user, in the order of adding.

    Kinds: `repeated` (talk that the user's earlier event says word for word), `boilerplate`,
    `secret:KIND`, for what was stored before a pattern was known, or with the screen off, and
    `never_retrieved`, for what no recall has returned, though others of the user's events were.
    """
    query = select(events).order_by(events.c.tenant, events.c.user, events.c.seq)
    counted = select(retrievals.c.event, retrievals.c.tenant, retrievals.c.user)
    if tenant is not None:
        query = query.where(events.c.tenant == tenant)
        counted = counted.where(retrievals.c.tenant == tenant)
    rules = Screen()
    said: set[tuple[str, str]] = set()
    whose: Owner | None = None
    with store.database.read() as connection:
        retrieved: dict[Owner, set[str]] = {}
        for event, *whom in connection.execute(counted):
            retrieved.setdefault((whom[0], whom[1]), set()).add(event)
        for row in connection.execute(query).mappings():
            one = to_interaction(dict(row))
            owner = row["tenant"], row["user"]
            if owner != whose:
                whose, said = owner, set()
            for kind in _kinds(one, rules, said):
                yield Finding(*owner, one.id, kind)
            if owner in retrieved and one.id not in retrieved[owner]:
                yield Finding(*owner, one.id, "never_retrieved")


def redact(store: Store, found: Finding, now: datetime) -> None:
    """Take the secrets out of an event that an audit found, and out of the log of its changes.

    Summaries that rest on it go, since they may repeat them; a job makes them anew. Adapters that
    learned from it go, too: weights cannot unlearn.
    """
    scope = Scope(found.user, found.tenant)
    one = store.get(scope, found.event)
    clean = screened(one, Screen()).interaction
    store.update(
        scope,
        one.id,
        query=clean.query,
        response=clean.response,
        outcome=clean.outcome,
        item=clean.item,
        options=clean.options,
        metadata=clean.metadata,
        now=now,
    )
    with store.database.write() as connection:
        owner = found.tenant, found.user
        store.lock(connection, owner)
        connection.execute(store.sql.scrub, {**key(owner), "id_": one.id})
        release_summaries(connection, store.sql, owner, [one.id], microseconds(now))
    store.database.flush_log()


def stats(store: Store) -> Stats:
    """Return the store's figures."""
    with store.database.read() as connection:
        rows = {
            table.name: int(
                connection.execute(select(func.count()).select_from(table)).scalar_one()
            )
            for table in TABLES.sorted_tables
        }
        by_state = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
        return Stats(rows, {row.state: row.number for row in connection.execute(by_state)})


def _kinds(one: Interaction, rules: Screen, said: set[tuple[str, str]]) -> Iterator[str]:
    if is_small_talk(one):
        if BOILERPLATE.fullmatch(one.text.strip()):
            yield "boilerplate"
        elif (one.role, one.query) in said:
            yield "repeated"
        said.add((one.role, one.query))
    yield from screened(one, rules).codes

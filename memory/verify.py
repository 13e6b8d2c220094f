"""Verifying: does the store agree with itself and with its index, and is nothing left of somebody.

`verify` reads everything once. `residue` looks for texts in the bytes of files, whatever they
are, and in every text of a PostgreSQL database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, Text, cast, func, select

from persona_agent.errors import StoreError
from persona_agent.memory.adapter_rows import problems as adapter_problems
from persona_agent.memory.lineage import TOMBSTONE_KEY, hashed
from persona_agent.memory.rows import Owner, to_interaction, to_row
from persona_agent.memory.schema import (
    TABLES,
    changes,
    events,
    evidence,
    facts,
    meta,
    summaries,
    summary_events,
    summary_parts,
    tombstones,
    users,
    vectors,
)
from persona_agent.memory.snapshot import Snapshot
from persona_agent.memory.store import Store
from persona_agent.types import Record

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Verification(Record):
    """What was looked at, and what is wrong; nothing is wrong if `problems` is empty."""

    users: int
    events: int
    vectors: int
    facts: int
    problems: tuple[str, ...]
    residue: tuple[str, ...] = ()
    summaries: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and nothing was found that should not be there."""
        return not self.problems and not self.residue

    def __str__(self) -> str:
        head = (
            f"{self.events} events of {self.users} users, {self.vectors} vectors, "
            f"{self.facts} facts, {self.summaries} summaries"
        )
        wrong = [*self.problems, *(f"residue: {one}" for one in self.residue)]
        return "\n".join([f"{head}: {'all agree' if self.ok else 'not in order'}", *wrong])


def verify(
    store: Store,
    *,
    canaries: Sequence[str] = (),
    files: Iterable[Path] = (),
    check_index: Callable[[Snapshot], Sequence[Owner]] | None = None,
    check_files: Callable[[Connection], Iterable[str]] | None = None,
) -> Verification:
    """Return what is wrong with a store, its index, and, of `canaries`, what is still somewhere.

    `files` are looked through besides the database; `check_index`, such as `Index.verify`, names
    the users whose index does not agree with the store. `check_files`, such as
    `AdapterFiles.problems`, gives what is wrong with the files that belong to rows.
    """
    problems: list[str] = []
    with store.database.read() as connection:
        if store.database.dialect == "sqlite":
            said = connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars()
            problems += [f"the file is damaged: {one}" for one in said if one != "ok"]
        problems += _numbers(connection)
        problems += _contents(connection)
        problems += _links(connection)
        problems += _sums(connection)
        problems += _raised(connection)
        problems += adapter_problems(connection)
        if check_files is not None:
            problems += check_files(connection)
        if check_index is not None:
            problems += [
                f"the index of {_who(one)} differs" for one in check_index(Snapshot(connection))
            ]
        counts = {
            table.name: _count(connection, table)
            for table in (users, events, vectors, facts, summaries)
        }
        residue = list(_rows_with(connection, canaries)) if canaries else []
    if canaries:
        residue += [f"{path}: {text!r}" for path, text in found_in(files, canaries)]
    return Verification(
        counts["users"],
        counts["events"],
        counts["vectors"],
        counts["facts"],
        tuple(problems),
        tuple(residue),
        counts["summaries"],
    )


def found_in(files: Iterable[Path], texts: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Give each file and text of which the file's bytes hold the text, however it is encoded."""
    forms = [(text, form) for text in texts for form in _forms(text)]
    longest = max((len(form) for _, form in forms), default=0)
    for path in files:
        seen: set[str] = set()
        try:
            with path.open("rb") as file:
                tail = b""
                while block := file.read(BLOCK):
                    window = tail + block
                    seen.update(text for text, form in forms if form in window)
                    tail = window[-longest:]
        except FileNotFoundError:
            continue  # a log that was emptied and removed meanwhile
        except OSError as error:
            raise StoreError(f"{path} cannot be looked through: {error.strerror}") from error
        yield from ((path, text) for text in sorted(seen))


def files_of(path: Path) -> list[Path]:
    """Return a database's file and what lies beside it under its name: logs, indexes, adapters."""
    beside = sorted(path.parent.glob(f"{path.name}*"))
    inside = [one for folder in beside if folder.is_dir() for one in sorted(folder.rglob("*"))]
    return [one for one in (*beside, *inside) if one.is_file()]


def _forms(text: str) -> set[bytes]:
    return {
        text.encode(),
        text.encode("utf-16-le"),
        json.dumps(text)[1:-1].encode(),
        json.dumps(text, ensure_ascii=False)[1:-1].encode(),
    }


def _numbers(connection: Connection) -> Iterator[str]:
    """Give the users whose counts and numbers do not fit their rows."""
    counted = {
        (tenant, user): (count, last)
        for tenant, user, count, last in connection.execute(
            select(events.c.tenant, events.c.user, func.count(), func.max(events.c.seq)).group_by(
                events.c.tenant, events.c.user
            )
        )
    }
    logged = {
        (tenant, user): last
        for tenant, user, last in connection.execute(
            select(changes.c.tenant, changes.c.user, func.max(changes.c.seq)).group_by(
                changes.c.tenant, changes.c.user
            )
        )
    }
    for row in connection.execute(select(users)):
        owner = row.tenant, row.user
        count, last = counted.pop(owner, (0, -1))
        if count != row.event_count:
            yield f"{_who(owner)} has {count} events, but {row.event_count} are counted"
        if max(last, logged.get(owner, -1)) >= row.next_seq:
            yield f"{_who(owner)} has rows numbered beyond {row.next_seq}"
    for owner in counted:
        yield f"{_who(owner)} has events, but is unknown"


def _contents(connection: Connection) -> Iterator[str]:
    """Give the events whose content is not what its hash says, and vectors cut short."""
    for row in connection.execute(select(events)).mappings():
        stored = dict(row)
        if to_row(to_interaction(stored))["hash"] != stored["hash"]:
            yield f"event {stored['id']!r} of {_who((row['tenant'], row['user']))} was altered"
    size = func.length(vectors.c.vector)
    odd = select(vectors.c.tenant, vectors.c.user, vectors.c.event).where(size % 4 != 0)
    for tenant, user, event in connection.execute(odd):
        yield f"the vector of event {event!r} of {_who((tenant, user))} is cut short"


def _links(connection: Connection) -> Iterator[str]:
    """Give the facts that rest on nothing, or name a successor that is not there."""
    query = select(evidence.c.tenant, evidence.c.user, evidence.c.fact).distinct()
    cited = {tuple(row) for row in connection.execute(query)}
    rows = list(connection.execute(select(facts)))
    there = {(row.tenant, row.user, row.id) for row in rows}
    for row in rows:
        owner = row.tenant, row.user
        if (*owner, row.id) not in cited:
            yield f"fact {row.id} of {_who(owner)} rests on no event"
        if row.superseded_by is not None and (*owner, row.superseded_by) not in there:
            yield f"fact {row.id} of {_who(owner)} names a successor that is not there"


def _sums(connection: Connection) -> Iterator[str]:
    """Give the summaries that rest on nothing, or name a successor that is not there."""
    made_of = {
        tuple(row)
        for table in (summary_events, summary_parts)
        for row in connection.execute(
            select(table.c.tenant, table.c.user, table.c.summary).distinct()
        )
    }
    columns = (summaries.c.tenant, summaries.c.user, summaries.c.id, summaries.c.superseded_by)
    rows = list(connection.execute(select(*columns)))
    there = {(row.tenant, row.user, row.id) for row in rows}
    for row in rows:
        owner = row.tenant, row.user
        if (*owner, row.id) not in made_of:
            yield f"summary {row.id} of {_who(owner)} rests on nothing"
        if row.superseded_by is not None and (*owner, row.superseded_by) not in there:
            yield f"summary {row.id} of {_who(owner)} names a successor that is not there"


def _raised(connection: Connection) -> Iterator[str]:
    """Give the users who are there though they were forgotten after they were last made known."""
    secret = connection.execute(select(meta.c.value).where(meta.c.key == TOMBSTONE_KEY)).scalar()
    if secret is None:
        return
    graves = {row.id: row.at for row in connection.execute(select(tombstones))}
    for row in connection.execute(select(users.c.tenant, users.c.user, users.c.created)):
        owner = row.tenant, row.user
        if graves.get(hashed(secret, owner), row.created) > row.created:
            yield f"{_who(owner)} was forgotten, but is there"


def _rows_with(connection: Connection, texts: Sequence[str]) -> Iterator[str]:
    """Give each table and text of which a row holds the text."""
    for table in TABLES.sorted_tables:
        for column in table.c:
            if not isinstance(column.type, Text):
                continue
            for text in texts:
                for form in {text, json.dumps(text)[1:-1]}:
                    held = cast(column, Text).contains(form, autoescape=True)
                    query = select(func.count()).select_from(table).where(held)
                    if connection.execute(query).scalar_one():
                        yield f"table {table.name}, column {column.name}: {text!r}"


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _who(owner: Owner) -> str:
    return f"user {owner[1]!r} of tenant {owner[0]!r}"

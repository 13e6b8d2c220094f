"""Forgetting a user: every row, the index, and a receipt that can be checked.

One transaction deletes the rows and leaves a tombstone; a job in flight finds its row gone and
writes nothing. Then the write-ahead log is emptied, since deleted text stays in it until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from persona_agent.errors import StoreError
from persona_agent.memory.failpoint import failpoint
from persona_agent.memory.index_file import index_path
from persona_agent.memory.lineage import count_rows, erase, pseudonym
from persona_agent.memory.rows import Owner, microseconds, owner_of
from persona_agent.memory.store import Store
from persona_agent.ports import Forgetter
from persona_agent.types import Record, Scope

Vacuum: TypeAlias = Literal["plain", "full"]

OUTSIDE = (
    "backups and copies of the database that you made",
    "what a model's provider logged of earlier prompts, and prompt caches until they are evicted",
)
SERVER_LOG = "the server's write-ahead log until it is recycled"
SERVER_SPACE = {
    None: "the server's dead rows until it vacuums, which this role may not do or others prevented",
    "plain": "bytes in the freed space of the server's tables until it is used again; "
    "a full vacuum removes them",
}


@dataclass(frozen=True, slots=True)
class Receipt(Record):
    """What was forgotten: rows by table, in the name of a hash; and what is beyond our reach.

    `log_emptied` is false if another reader kept SQLite's write-ahead log from being emptied:
    then it still holds deleted text, and `forget` is to be called again. `vacuumed` says which
    vacuum a PostgreSQL server did afterwards; None for none. `outside` says how many things each
    of the forgetters forgot, by their names.
    """

    subject: str
    at: datetime
    dry_run: bool
    rows: dict[str, int]
    log_emptied: bool
    beyond_reach: tuple[str, ...]
    vacuumed: Vacuum | None = None
    outside: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        verb = "would go" if self.dry_run else "gone"
        rows = [f"  {count} {table}" for table, count in self.rows.items() if count]
        rows += [f"  {count} {name}" for name, count in self.outside.items() if count]
        head = f"{verb}, under the name {self.subject} at {self.at:%Y-%m-%d %H:%M:%S}Z:"
        lines = [head, *(rows or ["  nothing was stored"])]
        if not self.log_emptied:
            lines.append("the write-ahead log is in use by a reader and not emptied: forget again")
        if self.vacuumed is not None:
            lines.append(f"the server's tables were vacuumed ({self.vacuumed})")
        return "\n".join([*lines, "beyond reach:", *(f"  {one}" for one in self.beyond_reach)])


def forget(
    store: Store,
    scope: Scope,
    now: datetime,
    *,
    dry_run: bool = False,
    drop_index: Callable[[Owner], None] | None = None,
    vacuum: Vacuum = "plain",
    forgetters: Mapping[str, Forgetter] | None = None,
) -> Receipt:
    """Forget all about a user, or tell what would be forgotten, and return the receipt.

    `drop_index` is told whom to drop from an index, such as `Index.forget`; without it, the saved
    index beside a SQLite file is removed, and is made again when it is needed. On PostgreSQL the
    tables are vacuumed afterwards if that is permitted; a "full" vacuum takes the bytes away, too,
    and locks everybody out of the tables while it lasts. `forgetters` know of users outside the
    database, and forget first, while the store still tells what there is; one that cannot stops
    all, and `forget` is to be called again. A dry run does not call them. Raises ValueError for a scope with an
    agent or a run: `delete_all` deletes those.
    """
    if scope.agent is not None or scope.run is not None:
        raise ValueError("only a whole user can be forgotten; give a scope without agent and run")
    owner = owner_of(scope)
    emptied = True
    outside: dict[str, int] = {}
    if not dry_run:
        outside = {name: one.forget(scope) for name, one in (forgetters or {}).items()}
    with store.database.write() as connection:
        store.lock(connection, owner)
        subject = pseudonym(connection, owner)
        if dry_run:
            rows = count_rows(connection, owner)
        else:
            rows = erase(connection, store.sql, owner, microseconds(now))
            failpoint("forget-before-commit")
    if not dry_run:
        failpoint("forget-after-commit")
        if drop_index is not None:
            drop_index(owner)
        elif store.database.path is not None:
            _remove(index_path(store.database.path))
        emptied = store.database.flush_log()
    if store.database.dialect != "postgresql":
        return Receipt(subject, now, dry_run, rows, emptied, OUTSIDE, outside=outside)
    vacuumed: Vacuum | None = None
    touched = [name for name, count in rows.items() if count]
    if touched and not dry_run and store.database.vacuum(touched, full=vacuum == "full"):
        vacuumed = vacuum
    space = [SERVER_SPACE[vacuumed]] if vacuumed in SERVER_SPACE else []
    beyond = (*OUTSIDE, *space, SERVER_LOG)
    return Receipt(subject, now, dry_run, rows, emptied, beyond, vacuumed, outside)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"the rows are gone, but the saved index {path} cannot be removed: {error.strerror}; "
            "remove it, it is a cache"
        ) from error

"""Operations: work that somebody asked for, that takes a while, and that can be asked about.

Unlike a job it stays when it is done, with its result. A worker takes it under a lease, which its
progress extends; one whose worker died is taken by another. It goes with its user.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, RowMapping, and_, insert, or_, select, update

from persona_agent.errors import StoreError, UnknownUser
from persona_agent.memory.rows import microseconds, owner_of, time_of
from persona_agent.memory.schema import operations
from persona_agent.memory.snapshot import Snapshot, key, of_owner
from persona_agent.memory.store import Store
from persona_agent.types import Json, Record, Scope

OperationState: TypeAlias = Literal["queued", "running", "done", "failed"]

LEASE = timedelta(minutes=5)
MAX_ATTEMPTS = 3
ENDED: tuple[OperationState, ...] = ("done", "failed")


class UnknownOperation(StoreError):
    """This user has no operation of this id."""


@dataclass(frozen=True, slots=True)
class Operation(Record):
    """An operation and how it stands; `result` when it is done, `error` when it failed."""

    scope: Scope
    id: str
    kind: str
    state: OperationState
    attempts: int
    created: datetime
    updated: datetime
    options: Mapping[str, Json] = field(default_factory=dict)
    progress: Mapping[str, Json] = field(default_factory=dict)
    result: Json = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED


class Operations:
    """The operations of a store, and a worker's hands on them."""

    def __init__(self, store: Store, *, worker: str | None = None) -> None:
        self._store = store
        self._worker = worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    def ask(
        self,
        scope: Scope,
        kind: str,
        now: datetime,
        *,
        options: Mapping[str, Json] | None = None,
        operation_id: str | None = None,
    ) -> Operation:
        """Ask for an operation and return it; the same id, or one of the kind under way, again.

        Raises UnknownUser if nothing is stored about the user.
        """
        owner = owner_of(scope)
        at = microseconds(now)
        with self._store.database.write() as connection:
            self._store.lock(connection, owner)
            if owner not in Snapshot(connection).heads([owner]):
                raise UnknownUser(
                    f"nothing is stored about user {scope.user!r}; add interactions first"
                )
            mine = select(operations).where(of_owner(operations), operations.c.kind == kind)
            under_way = operations.c.state.not_in(ENDED)
            same = under_way if operation_id is None else operations.c.id == operation_id
            found = connection.execute(mine.where(same), key(owner)).mappings().first()
            if found is not None:
                return _operation(found)
            row = {
                "tenant": owner[0],
                "user": owner[1],
                "id": operation_id or secrets.token_hex(12),
                "kind": kind,
                "state": "queued",
                "attempts": 0,
                "due": at,
                "options": json.dumps(dict(options or {})),
                "progress": "{}",
                "created": at,
                "updated": at,
            }
            connection.execute(insert(operations), row)
            again = select(operations).where(of_owner(operations), operations.c.id == row["id"])
            return _operation(connection.execute(again, key(owner)).mappings().one())

    def get(self, scope: Scope, operation_id: str) -> Operation:
        """Return an operation of a user; raises UnknownOperation."""
        query = select(operations).where(of_owner(operations), operations.c.id == operation_id)
        with self._store.database.read() as connection:
            row = connection.execute(query, key(owner_of(scope))).mappings().first()
        if row is None:
            raise UnknownOperation(f"user {scope.user!r} has no operation {operation_id!r}")
        return _operation(row)

    def find(self, tenant: str, operation_id: str) -> Operation:
        """Return an operation of a tenant, whosesoever it is; raises UnknownOperation."""
        query = select(operations).where(
            operations.c.tenant == tenant, operations.c.id == operation_id
        )
        with self._store.database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise UnknownOperation(f"there is no operation {operation_id!r}")
        return _operation(row)

    def list(self, tenant: str, scope: Scope | None = None, *, limit: int = 100) -> list[Operation]:
        """Return the latest operations of a tenant, or of one of its users, latest first."""
        query = select(operations).where(operations.c.tenant == tenant)
        if scope is not None:
            query = query.where(operations.c.user == scope.user)
        order = (operations.c.created.desc(), operations.c.id)
        with self._store.database.read() as connection:
            rows = connection.execute(query.order_by(*order).limit(limit)).mappings()
            return [_operation(row) for row in rows]

    def claim(
        self, kinds: Collection[str], now: datetime, lease: timedelta = LEASE
    ) -> Operation | None:
        """Take the operation that waits longest, for `lease`; None if none waits.

        One whose worker let its lease run out waits, too.
        """
        at = microseconds(now)
        abandoned = and_(operations.c.state == "running", operations.c.due <= at)
        query = (
            select(operations)
            .where(
                or_(operations.c.state == "queued", abandoned), operations.c.kind.in_(list(kinds))
            )
            .order_by(operations.c.due, operations.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._store.database.write() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            taken: dict[str, Any] = {
                "state": "running",
                "attempts": row["attempts"] + 1,
                "due": microseconds(now + lease),
                "worker": self._worker,
                "updated": at,
            }
            if row["attempts"] >= MAX_ATTEMPTS:  # each attempt took its process down
                taken |= {"state": "failed", "error": "every attempt ended without a word"}
            this = update(operations).where(of_owner(operations), operations.c.id == row["id"])
            connection.execute(this.values(**taken), key((row["tenant"], row["user"])))
        return None if taken["state"] == "failed" else _operation({**row, **taken})

    def tell(
        self, one: Operation, progress: Mapping[str, Json], now: datetime, lease: timedelta = LEASE
    ) -> bool:
        """Note how far an operation is, and hold it for longer; false if it is ours no more."""
        return self._change(
            one, now, progress=json.dumps(dict(progress)), due=microseconds(now + lease)
        )

    def finish(self, one: Operation, result: Json, now: datetime) -> bool:
        """Note the result of an operation; false if it is ours no more."""
        return self._change(one, now, state="done", result=json.dumps(result, ensure_ascii=False))

    def fail(self, one: Operation, error: str, now: datetime) -> bool:
        """Note why an operation failed; false if it is ours no more."""
        return self._change(one, now, state="failed", error=error[:2000])

    def release(self, one: Operation, now: datetime) -> bool:
        """Give an operation back, to be taken anew; false if it is ours no more."""
        return self._change(one, now, state="queued", attempts=max(0, one.attempts - 1))

    def _change(self, one: Operation, now: datetime, **values: object) -> bool:
        change = update(operations).where(self._is_mine(one))
        with self._store.database.write() as connection:
            done = connection.execute(
                change.values(**values, updated=microseconds(now)), key(owner_of(one.scope))
            )
            return bool(done.rowcount)

    def _is_mine(self, one: Operation) -> ColumnElement[bool]:
        return and_(
            of_owner(operations),
            operations.c.id == one.id,
            operations.c.state == "running",
            operations.c.worker == self._worker,
            operations.c.attempts == one.attempts,
        )


def _operation(row: RowMapping | Mapping[str, Any]) -> Operation:  # Any: of the schema's types
    return Operation(
        Scope(row["user"], row["tenant"]),
        row["id"],
        row["kind"],
        row["state"],
        row["attempts"],
        time_of(row["created"]),
        time_of(row["updated"]),
        json.loads(row["options"]),
        json.loads(row["progress"]),
        None if row["result"] is None else json.loads(row["result"]),
        row["error"],
    )

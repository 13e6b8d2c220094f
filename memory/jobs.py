"""Jobs: work that a write asks for and that is done later, at least once, with one effect.

A job is a row in the outbox, written by the transaction that makes it necessary. A worker takes it
under a lease, does the slow part outside any transaction, and writes its result in the transaction
that deletes the job. That transaction looks for the job first: if the user was forgotten
meanwhile, or the lease was lost to another worker, nothing is written. A job that fails is tried
again after a pause that doubles; after the last attempt it is dead and waits for `retry`.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Update,
    and_,
    delete,
    func,
    select,
    update,
)

from persona_agent.errors import PersonaAgentError, StoreError
from persona_agent.memory.failpoint import failpoint
from persona_agent.memory.rows import microseconds, owner_of, time_of
from persona_agent.memory.schema import jobs, users
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.store import Store
from persona_agent.memory.writing import waiting_job
from persona_agent.types import Record, Scope

State: TypeAlias = Literal["waiting", "running", "retry", "dead"]
Commit: TypeAlias = Callable[[Connection], None]

MAX_ATTEMPTS = 6
FIRST_PAUSE = timedelta(seconds=10)
LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Job(Record):
    """A job: what kind of work, about which of a user's writes, and how it stands."""

    scope: Scope
    id: str
    kind: str
    first_seq: int
    last_seq: int
    state: State
    attempts: int
    due: datetime
    error: str | None


# A kind of job is a function by a name. It does the slow part and returns what is to be written;
# that must be all that it writes. Whatever it raises is why the job is tried again.
Handler: TypeAlias = Callable[[Store, Job], Commit]


@dataclass(frozen=True, slots=True)
class Ran(Record):
    """How one attempt ended: done; retry or dead, with the error; lost, if it was not its any more."""

    job: Job
    end: Literal["done", "retry", "dead", "lost"]
    error: str | None = None


class JobLost(StoreError):
    """The job is not this worker's any more: the user was forgotten, or the lease ran out."""


class Jobs:
    """The jobs of a store, and a worker's hands on them.

    A worker goes round the tenants that have jobs due, beginning anywhere, and takes the oldest
    job of each in turn: ten thousand jobs of one tenant keep nobody else waiting.
    """

    def __init__(self, store: Store, *, worker: str | None = None) -> None:
        self._store = store
        self._served: str | None = None  # the tenant whose job was taken last
        self._worker = worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    def list(
        self,
        scope: Scope | None = None,
        state: State | None = None,
        *,
        tenant: str | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the jobs there are, of one user, one tenant or all, in one state or in all.

        Oldest first, at most `limit`.
        """
        query = select(jobs).order_by(jobs.c.created, jobs.c.id).limit(limit)
        if scope is not None:
            query = query.where(jobs.c.tenant == scope.tenant, jobs.c.user == scope.user)
        if tenant is not None:
            query = query.where(jobs.c.tenant == tenant)
        if state is not None:
            query = query.where(jobs.c.state == state)
        with self._store.database.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def counts(self, tenant: str) -> dict[str, int]:
        """Return how many jobs of a tenant are in each state that any is in."""
        query = (
            select(jobs.c.state, func.count()).where(jobs.c.tenant == tenant).group_by(jobs.c.state)
        )
        with self._store.database.read() as connection:
            return {state: int(count) for state, count in connection.execute(query)}

    def request(self, scope: Scope, kind: str, now: datetime) -> bool:
        """Ask for a job about all of a user's writes; false for an unknown user."""
        owner = owner_of(scope)
        with self._store.database.write() as connection:
            self._store.lock(connection, owner)
            found = connection.execute(select(users.c.next_seq).where(of_owner(users)), key(owner))
            last = found.scalar()
            if last is None:
                return False
            row = waiting_job(owner, kind, 0, last, microseconds(now))
            connection.execute(self._store.sql.enqueue, [row])
        return True

    def retry(
        self, now: datetime, ids: Sequence[str] | None = None, *, tenant: str | None = None
    ) -> int:
        """Let dead jobs, or those of these ids, run again from their first attempt; return how many.

        With `tenant`, no others'.
        """
        change = (
            update(jobs)
            .where(jobs.c.state == "dead")
            .values(state="retry", attempts=0, due=microseconds(now))
        )
        if ids is not None:
            change = change.where(jobs.c.id.in_(list(ids)))
        if tenant is not None:
            change = change.where(jobs.c.tenant == tenant)
        with self._store.database.write() as connection:
            return connection.execute(change).rowcount

    def claim(self, kinds: Sequence[str], now: datetime, lease: timedelta = LEASE) -> Job | None:
        """Take a job for `lease`: of the next tenant, the one due longest; None if none is due.

        One that another worker took and did not end within its lease is due, too.
        """
        at = microseconds(now)
        due = and_(
            jobs.c.state.in_(["waiting", "retry", "running"]),
            jobs.c.due <= at,
            jobs.c.kind.in_(list(kinds)),
        )
        oldest = (
            select(jobs)
            .where(due)
            .order_by(jobs.c.due, jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._store.database.write() as connection:
            tenants = connection.execute(select(jobs.c.tenant).where(due).distinct()).scalars()
            for tenant in self._in_turn(list(tenants)):
                query = oldest.where(jobs.c.tenant == tenant)
                row = connection.execute(query).mappings().first()
                if row is not None:  # else other workers hold all of this tenant's
                    break
            else:
                return None
            self._served = tenant
            taken = {
                "state": "running",
                "attempts": row["attempts"] + 1,
                "due": at + lease // timedelta(microseconds=1),
                "worker": self._worker,
            }
            owner = row["tenant"], row["user"]
            this = update(jobs).where(of_owner(jobs), jobs.c.id == row["id"])
            connection.execute(this.values(**taken), key(owner))
        failpoint("job-claimed")
        return _job({**row, **taken})

    def extend(self, job: Job, now: datetime, lease: timedelta = LEASE) -> bool:
        """Hold a job for longer; false if it is this worker's no more."""
        owner = owner_of(job.scope)
        change = self._mine(job).values(due=microseconds(now + lease))
        with self._store.database.write() as connection:
            return bool(connection.execute(change, key(owner)).rowcount)

    def finish(self, job: Job, commit: Commit) -> None:
        """Write a job's result and delete it, in one transaction; raises JobLost, or StoreError."""
        owner = owner_of(job.scope)
        with self._store.database.write() as connection:
            self._store.lock(connection, owner)
            drop = delete(jobs).where(self._is_mine(job))
            if not connection.execute(drop, key(owner)).rowcount:
                raise JobLost(f"job {job.id} is gone: its user was forgotten, or its lease ran out")
            commit(connection)
            failpoint("job-before-commit")

    def fail(self, job: Job, error: str, now: datetime) -> Literal["retry", "dead", "lost"]:
        """Note why an attempt failed, and when the next is due, if there is one."""
        owner = owner_of(job.scope)
        dead = job.attempts >= MAX_ATTEMPTS
        pause = FIRST_PAUSE * 2 ** (job.attempts - 1)
        change = self._mine(job).values(
            state="dead" if dead else "retry", due=microseconds(now + pause), error=error[:2000]
        )
        with self._store.database.write() as connection:
            if not connection.execute(change, key(owner)).rowcount:
                return "lost"
        return "dead" if dead else "retry"

    def _in_turn(self, tenants: Sequence[str]) -> Sequence[str]:
        """Return tenants from the one after the last that was served, round to that one."""
        order = sorted(tenants)
        if self._served is None:
            start = secrets.randbelow(len(order)) if order else 0
        else:
            start = bisect_right(order, self._served)
        return order[start:] + order[:start]

    def _mine(self, job: Job) -> Update:
        return update(jobs).where(self._is_mine(job))

    def _is_mine(self, job: Job) -> ColumnElement[bool]:
        return and_(
            of_owner(jobs),
            jobs.c.id == job.id,
            jobs.c.state == "running",
            jobs.c.worker == self._worker,
            jobs.c.attempts == job.attempts,
        )


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def run_jobs(
    store: Store,
    handlers: Mapping[str, Handler],
    *,
    limit: int | None = None,
    clock: Callable[[], datetime] = utc_now,
    lease: timedelta = LEASE,
) -> list[Ran]:
    """Do the jobs that are due now, one after the other, and tell how each attempt ended.

    Several processes may do so at once. A job of a kind that has no handler stays where it is.
    """
    worker = Jobs(store)
    ran: list[Ran] = []
    while limit is None or len(ran) < limit:
        job = worker.claim(list(handlers), clock(), lease)
        if job is None:
            break
        ran.append(_run(worker, store, handlers[job.kind], job, clock, lease))
    return ran


def _run(
    worker: Jobs,
    store: Store,
    handler: Handler,
    job: Job,
    clock: Callable[[], datetime],
    lease: timedelta,
) -> Ran:
    if job.attempts > MAX_ATTEMPTS:  # each attempt took its process down, so none could say why
        return Ran(job, worker.fail(job, "every attempt ended without a word", clock()))
    try:
        with _heartbeat(worker, job, clock, lease):
            commit = handler(store, job)
        worker.finish(job, commit)
    except JobLost as error:
        return Ran(job, "lost", str(error))
    except (PersonaAgentError, ValueError, TypeError, KeyError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        return Ran(job, worker.fail(job, reason, clock()), reason)
    return Ran(job, "done")


@contextmanager
def _heartbeat(
    worker: Jobs, job: Job, clock: Callable[[], datetime], lease: timedelta
) -> Iterator[None]:
    """Extend the lease every third of it, until the block ends or the job is lost."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(lease.total_seconds() / 3):
            try:
                if not worker.extend(job, clock(), lease):
                    return
            except StoreError:
                continue  # the lease has time left; `finish` finds out if it had not

    thread = threading.Thread(target=beat, name=f"heartbeat of job {job.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _job(row: Mapping[str, Any] | RowMapping) -> Job:  # Any: of the types in the schema
    return Job(
        Scope(row["user"], row["tenant"]),
        row["id"],
        row["kind"],
        row["first_seq"],
        row["last_seq"],
        row["state"],
        row["attempts"],
        time_of(row["due"]),
        row["error"],
    )

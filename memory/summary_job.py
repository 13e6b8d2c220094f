"""Summaries of a store: as of a time, and the job that brings them up to date.

What was asked for is kept even where a tree cannot be finished: an id says what a summary was made
of, so it is right whenever it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from persona_agent.drive import Ports, run
from persona_agent.errors import BackendError
from persona_agent.memory.jobs import Commit, Handler, Job, JobLost
from persona_agent.memory.rows import Owner, microseconds, owner_of, to_interaction
from persona_agent.memory.schema import events, jobs
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.store import Store
from persona_agent.memory.summaries import Summary, Tree, at_time, summarise
from persona_agent.memory.summary_rows import (
    read_summaries,
    request_summaries,
    write_summaries,
    write_tree,
)
from persona_agent.ports import LLM
from persona_agent.program import salted
from persona_agent.sensitive import WordLists
from persona_agent.types import Interaction, Scope

_OWN = (
    select(events)
    .where(of_owner(events), events.c.role == "user", events.c.trust == "user")
    .order_by(events.c.when, events.c.seq)
)


def summaries_of(store: Store, scope: Scope) -> list[Summary]:
    """Return all summaries of a user, those that stand no more too, in the order of their times."""
    with store.database.read() as connection:
        return read_summaries(connection, owner_of(scope))


def summary_of(store: Store, scope: Scope, as_of: datetime | None = None) -> list[Summary]:
    """Return what a prompt may say of a user, now or as it was said of a time; see `at_time`."""
    return at_time(summaries_of(store, scope), as_of)


def summary_job(
    llm: LLM,
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
    salt: Callable[[Scope], str | None] = lambda scope: None,
) -> Handler:
    """Return the handler of jobs of the kind "summaries": bring a user's summaries up to date.

    Only the user's own words are read, and only what is new or changed is asked for. `sensitive`,
    `words` and `salt` are as for `fact_job`.
    """

    def work(store: Store, job: Job) -> Commit:
        owner = owner_of(job.scope)
        with store.database.read() as connection:
            before = _own(connection, owner)
            known = {one.id: one for one in read_summaries(connection, owner)}
        program = summarise(before, known, sensitive=sensitive, words=words)
        tree = run(salted(program, salt(job.scope)), Ports(llm))
        if tree.failed is not None:
            _keep(store, job, before, tree)
            raise BackendError(f"no summary of the person: {tree.failed}")

        def commit(connection: Connection) -> None:
            # The user's row is locked now. What a model was told that is not so any more is not
            # written, and what is new is for the next job.
            now = datetime.now(UTC)
            if _own(connection, owner) == before:
                write_tree(connection, owner, tree, now)
                return
            write_summaries(connection, owner, _still_true(connection, owner, before, tree), now)
            request_summaries(connection, store.sql, owner, microseconds(now))

        return commit

    return work


def _keep(store: Store, job: Job, before: Sequence[Interaction], tree: Tree) -> None:
    """Write what was made before a tree failed, unless the job is not ours any more."""
    owner = owner_of(job.scope)
    mine = select(jobs.c.id).where(
        of_owner(jobs), jobs.c.id == job.id, jobs.c.attempts == job.attempts
    )
    with store.database.write() as connection:
        store.lock(connection, owner)
        if connection.execute(mine, key(owner)).scalar() is None:
            raise JobLost(f"job {job.id} is gone: its user was forgotten, or its lease ran out")
        new = _still_true(connection, owner, before, tree)
        write_summaries(connection, owner, new, datetime.now(UTC))


def _still_true(
    connection: Connection, owner: Owner, before: Sequence[Interaction], tree: Tree
) -> list[Summary]:
    """Return what is new in a tree and was made only of what is still so."""
    now = {one.id: one for one in _own(connection, owner)}
    same = {one.id for one in before if now.get(one.id) == one}
    there = {one.id for one in read_summaries(connection, owner)}
    good: list[Summary] = []
    for one in tree.new:  # parts come before what was made of them
        if one.id not in there and same.issuperset(one.events) and there.issuperset(one.parts):
            good.append(one)
            there.add(one.id)
    return good


def _own(connection: Connection, owner: Owner) -> list[Interaction]:
    rows = connection.execute(_OWN, key(owner)).mappings()
    return [to_interaction(dict(row)) for row in rows]

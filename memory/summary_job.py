"""Summaries of a store: as of a time, and the job that brings them up to date.

What was asked for is kept even where a tree cannot be finished: an id says what a summary was made
of, so it is right whenever it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, literal_column, select

from persona_agent.drive import Ports, run
from persona_agent.errors import BackendError
from persona_agent.memory.jobs import Commit, Handler, Job, JobLost
from persona_agent.memory.prepared import DIALECTS, Prepared
from persona_agent.memory.rows import Owner, microseconds, owner_of, to_interaction
from persona_agent.memory.schema import events, jobs, summaries
from persona_agent.memory.snapshot import key, of_owner
from persona_agent.memory.store import Store
from persona_agent.memory.summaries import Summary, Tree, summarise
from persona_agent.memory.summary_rows import (
    read_summaries,
    request_summaries,
    summary_in,
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


_TOP = (
    select(summaries)
    .where(
        of_owner(summaries),
        summaries.c.level == literal_column("'user'"),
        summaries.c.valid_until.is_(None),
    )
    .order_by(summaries.c.valid_from.desc(), summaries.c.id.desc())
    .limit(literal_column("1"))
    .offset(literal_column("0"))  # no bound values
)
_STANDING = {dialect: Prepared(_TOP, dialect) for dialect in DIALECTS}
_COLUMNS = tuple(column.name for column in summaries.c)


def summaries_of(store: Store, scope: Scope) -> list[Summary]:
    """Return all summaries of a user, those that stand no more too, in the order of their times."""
    with store.database.read() as connection:
        return read_summaries(connection, owner_of(scope))


def standing(store: Store, scope: Scope) -> Summary | None:
    """Return the summary of a user that stands now, without what it was made of; None if none does.

    One small read, for every prompt; `summaries_of` tells what it rests on.
    """
    with store.database.read() as connection:
        return standing_in(connection, owner_of(scope))


def standing_in(connection: Connection, owner: Owner) -> Summary | None:
    """Return what `standing` does, by a connection that others read by, too."""
    rows = _STANDING[connection.dialect.name].rows(connection, key(owner))
    return summary_in(dict(zip(_COLUMNS, rows[0], strict=True))) if rows else None


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
        before, known = _read(store, job.scope)
        program = summarise(before, known, sensitive=sensitive, words=words)
        tree = run(salted(program, salt(job.scope)), Ports(llm))
        if tree.failed is not None:
            _keep(store, job, before, tree)
            raise BackendError(f"no summary of the person: {tree.failed}")
        return lambda connection: _write(store, connection, owner_of(job.scope), before, tree)

    return work


def refresh(
    store: Store,
    scope: Scope,
    llm: LLM,
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
    salt: str | None = None,
) -> Tree:
    """Bring a user's summaries up to date now, and return the tree; see `summary_job`.

    Raises BackendError where the person could not be summed up; what was made is kept.
    """
    before, known = _read(store, scope)
    program = summarise(before, known, sensitive=sensitive, words=words)
    tree = run(salted(program, salt), Ports(llm))
    owner = owner_of(scope)
    with store.database.write() as connection:
        store.lock(connection, owner)
        _write(store, connection, owner, before, tree)
    if tree.failed is not None:
        raise BackendError(f"no summary of {scope.user!r} could be made: {tree.failed}")
    return tree


def _read(store: Store, scope: Scope) -> tuple[list[Interaction], dict[str, Summary]]:
    """Return what is to be summed up, and the summaries there are, of one moment."""
    owner = owner_of(scope)
    with store.database.read() as connection:
        known = {one.id: one for one in read_summaries(connection, owner)}
        return _own(connection, owner), known


def _write(
    store: Store,
    connection: Connection,
    owner: Owner,
    before: Sequence[Interaction],
    tree: Tree,
) -> None:
    """Write a tree that was made of `before`; the user's row is locked.

    What a model was told that is not so any more is not written; a job is asked for instead.
    """
    now = datetime.now(UTC)
    if _own(connection, owner) == before:
        write_tree(connection, owner, tree, now)
        return
    write_summaries(connection, owner, _still_true(connection, owner, before, tree), now)
    request_summaries(connection, store.sql, owner, microseconds(now))


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

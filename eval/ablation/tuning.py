"""Weights for a study: adapters of its people, made of what they did before the queries alone.

An adapter that saw a query has read the answer. What each was made of stands in the store, event
by event with a hash, so this is checked and not hoped for: whatever learned something of a studied
person that is not in that person's history is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from persona_agent.distil import Distilled, TraceOptions
from persona_agent.drive import Ports, run_many
from persona_agent.errors import NotEnoughData
from persona_agent.memory.adapter_files import AdapterFiles
from persona_agent.memory.adapter_rows import Adapter
from persona_agent.memory.adapters import adapters_of, sources_of
from persona_agent.memory.rows import to_row
from persona_agent.memory.store import Store
from persona_agent.ports import LLM
from persona_agent.program import Result
from persona_agent.task import Task
from persona_agent.train.base import Base
from persona_agent.train.options import TrainOptions
from persona_agent.train.traces import NO_TRACES, TracesByUser, thought_about
from persona_agent.train.trainer import Learned, Tell, quietly, train_all
from persona_agent.types import Interaction, Record, Scope

Histories: TypeAlias = Mapping[str, Sequence[Interaction]]


@dataclass(frozen=True, slots=True)
class Tuned(Record):
    """The adapters that a study may use: names by method and user, and folders by name.

    `refused` says of each that it may not use why.
    """

    names: Mapping[str, Mapping[str, str]]
    folders: Mapping[str, Path]
    refused: tuple[str, ...] = ()


def tuned_in(
    files: AdapterFiles, histories: Histories, *, base: str, tenant: str = "default"
) -> Tuned:
    """Return the adapters of these people in a store, of each method the newest that may be used.

    `base` is the fingerprint of the model that they must be of. Raises StoreError for one whose
    folder is not there.
    """
    there = adapters_of(files.store, tenant)
    by_name = {one.name: one for one in there}
    told = {(user, one.id): to_row(one)["hash"] for user, own in histories.items() for one in own}
    names: dict[str, dict[str, str]] = {}
    folders: dict[str, Path] = {}
    refused = []
    for one in there:  # newest first
        user = one.user
        if user is None or user not in histories or user in names.get(one.method, {}):
            continue
        if one.base_hash != base:
            refused.append(f"{one.name} is of another base, {one.base!r}")
        elif problem := _problem(files.store, one, by_name, told, histories):
            refused.append(problem)
        else:
            names.setdefault(one.method, {})[user] = one.name
            folders[one.name] = files.path(one.name)
    return Tuned(names, folders, tuple(refused))


def distil_all(
    histories: Histories, task: Task, llm: LLM, options: TraceOptions
) -> dict[str, Result[Distilled]]:
    """Let the model think about what each person did, and return what came of it, by person.

    Who has nothing to think about has NotEnoughData; any other error is raised.
    """
    programs = [thought_about(own, lambda _: task, options) for own in histories.values()]
    results = run_many(programs, Ports(llm))
    for one in results:
        if one.error is not None and not isinstance(one.error, NotEnoughData):
            raise one.error
    return dict(zip(histories, results, strict=True))


def tune(
    files: AdapterFiles,
    base: Base,
    histories: Histories,
    task: Task,
    options: TrainOptions,
    *,
    traces: TracesByUser = NO_TRACES,
    clock: Callable[[], datetime],
    tell: Tell = quietly,
) -> dict[str, Result[Learned]]:
    """Train an adapter of each person on the history, and return what came of it, by person.

    The store becomes what the histories hold of these people: what else it knew of them goes, and
    the adapters that learned from it. What was trained on the same before is not trained again.
    """
    for user, history in histories.items():
        _hold(files.store, Scope(user), history, clock())
    files.sweep()
    scopes = [Scope(user) for user in histories]
    results = train_all(
        files, base, scopes, lambda _: task, options, traces=traces, clock=clock, tell=tell
    )
    return dict(zip(histories, results, strict=True))


def _hold(store: Store, scope: Scope, history: Sequence[Interaction], now: datetime) -> None:
    wanted = {one.id: to_row(one)["hash"] for one in history}
    for one in store.get_all(scope):
        if wanted.get(one.id) != to_row(one)["hash"]:
            store.delete(scope, one.id, now)
    store.add(history, now=now)


def _problem(
    store: Store,
    adapter: Adapter,
    by_name: Mapping[str, Adapter],
    told: Mapping[tuple[str, str], object],
    histories: Histories,
) -> str | None:
    """Return why an adapter may not be used; None if it may."""
    made_of: Adapter | None = adapter
    while made_of is not None:
        for source in sources_of(store, made_of):
            if source.user not in histories or told.get((source.user, source.event)) == source.hash:
                continue
            return (
                f"{adapter.name} learned from {source.event} of {source.user}, which is not in the "
                "history that is studied: train with --held-out, at least as much as is asked"
            )
        if made_of.start is not None and made_of.start not in by_name:
            return f"{adapter.name} began with {made_of.start}, of which nothing is known"
        made_of = None if made_of.start is None else by_name[made_of.start]
    return None

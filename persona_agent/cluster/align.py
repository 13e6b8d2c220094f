"""Alignment of many users by a fleet of workers against one database.

A worker opens its own agent: connections to the database, an embedder, an engine. Between rounds
the state of every alignment is saved, and a new persona version is a compare-and-swap, so a user
whose worker dies resumes with another, and ends with one new version at most.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import eq
from pathlib import Path

from sqlalchemy import make_url

from persona_agent.agent import PersonaAgent
from persona_agent.align import Alignment, AlignOptions
from persona_agent.aligner import KEY
from persona_agent.cluster.driver import (
    Done,
    Ended,
    Failed,
    Fleet,
    Ready,
    Worker,
    connected,
    run_many,
)
from persona_agent.cost import Cost
from persona_agent.errors import BackendError, PersonaConflict
from persona_agent.llm import open_llm
from persona_agent.llm.metered import Spent, metered
from persona_agent.memory.store import Store
from persona_agent.ports import LLM
from persona_agent.program import Result
from persona_agent.task import Task
from persona_agent.types import Record, Scope

# An alignment stores two versions at most, the start and what it accepted. Either may be there
# already, of a worker that was thought dead: then it goes on from what is there.
VERSIONS = 2
LLM_VARIABLES = ("PERSONA_AGENT_LLM_", "OPENAI_")


@dataclass(frozen=True, slots=True)
class Engine:
    """What every worker opens for itself: a model and an embedder, by name or by a function.

    `llm` is a specification as `open_llm` takes it, with the options given, or a function that
    can be pickled and returns an LLM. A model or file that is named must be on every machine.
    `gpus` is how many GPUs one worker's engine occupies: a guess of ours for the cost report.
    """

    llm: str | Callable[[], LLM] = "local"
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    threads: int | None = None
    embedder: str = "minilm"
    gpus: float = 1.0

    def open(self, environ: Mapping[str, str]) -> LLM:
        """Return the model; an endpoint's address and key are looked up in `environ`, too."""
        if not isinstance(self.llm, str):
            return self.llm()
        return open_llm(
            self.llm,
            base_url=self.base_url,
            api_key=self.api_key,
            threads=self.threads,
            environ=environ,
        )


@dataclass(frozen=True, slots=True)
class Aligned(Record):
    """How one user's alignment ended; `error` says why it did not, and is None when it did.

    `version` is the persona's after it. `resumed` says that an earlier run, or another, had done
    it all: this run only found that out.
    """

    user: str
    accepted: bool = False
    version: int = 0
    rounds: int = 0
    candidates: int = 0
    reason: str = ""
    resumed: bool = False
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.user}: not aligned: {self.error}"
        what = "accepted" if self.accepted else "unchanged"
        return (
            f"{self.user}: {what} after {self.rounds} rounds and {self.candidates} candidates "
            f"({self.reason}); version {self.version}"
        )


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """Where a run stands. `news` tells what just happened to a worker, and is else empty."""

    users: int
    done: int
    failed: int
    workers: tuple[Worker, ...]
    spent: Spent
    seconds: float
    news: str = ""

    @property
    def users_per_s(self) -> float:
        """Users that ended, by seconds so far, the start of the workers included."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Report(Record):
    """How a run ended: one result a user, in order; the workers that ended early; the cost."""

    results: tuple[Aligned, ...]
    ended: tuple[str, ...]
    cost: Cost

    @property
    def failed(self) -> tuple[Aligned, ...]:
        """The results of users who were not aligned."""
        return tuple(one for one in self.results if one.error is not None)


def align_users(
    database: str | Path,
    users: Sequence[str] | None = None,
    *,
    engine: Engine = Engine(),
    fleet: Fleet = Fleet(),
    options: AlignOptions = AlignOptions(),
    tenant: str = "default",
    task: Task | None = None,
    environ: Mapping[str, str] = os.environ,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Align users, or all, by a fleet of workers; one that dies is replaced and loses nothing.

    `database` is a URL that every machine can reach. An SQLite file will do as long as all
    workers are on this machine. What was stopped resumes when it is called again, and who is done
    for the same data is found done. `task` is inferred for each user unless it is given.

    Raises StoreError for a database that cannot be opened, ValueError for one that cannot be
    shared, and BackendError if Ray cannot be reached or no worker can be opened.
    """
    place = _shared(database)
    with Store.open(place) as store:  # a wrong one is told here, not by each worker
        names = store.users(tenant) if users is None else list(users)
    if len(set(names)) != len(names):
        raise ValueError("a user is named twice; name each user once")
    keys = {key: text for key, text in environ.items() if key.startswith(LLM_VARIABLES)}
    order = _Order(place, tenant, engine, options, task, keys)
    tally = _Tally(names, engine.gpus, on_progress)
    if not names:
        return tally.report()
    with connected(fleet) as ray:
        machines = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        check_machines(place, machines, fleet.address)
        with closing(run_many(order.open, names, fleet)) as events:
            for event in events:
                tally.note(event)
    return tally.report()


def _shared(database: str | Path) -> str:
    """Return a database's place as every process of this machine can open it."""
    text = str(database)
    is_url = isinstance(database, str) and "://" in database
    if text == ":memory:" or (is_url and _sqlite_path(text) in ("", ":memory:")):
        raise ValueError(
            f"the database is {text!r}, in this process's memory; workers are other processes: "
            "give a PostgreSQL URL, or on one machine a file"
        )
    return text if is_url else str(Path(text).resolve())


def _sqlite_path(url: str) -> str | None:
    """Return the path in an SQLite URL, empty for memory; None for another database."""
    if not url.startswith("sqlite"):
        return None
    return make_url(url).database or ""


def check_machines(place: str, machines: Collection[str], address: str | None) -> None:
    """Raise ValueError if workers might be where the database file is not.

    `machines` are those of the cluster; with an address of ray:// this process is on none of them.
    """
    if "://" in place and not place.startswith("sqlite"):
        return
    if len(machines) > 1 or (address or "").startswith("ray://"):
        raise ValueError(
            f"{place} is an SQLite file of one machine, and workers would be on others (the "
            f"cluster has {len(machines)}); give the URL of a PostgreSQL server that all reach"
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """All that a worker needs to know; it is pickled to every one."""

    database: str
    tenant: str
    engine: Engine
    options: AlignOptions
    task: Task | None
    environ: Mapping[str, str] = field(repr=False)

    def open(self) -> _Aligning:
        return _Aligning(self)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a worker made of a batch, and what it cost."""

    results: tuple[Aligned, ...]
    spent: Spent


class _Aligning:
    """An agent in a worker's process, which aligns one batch after another."""

    def __init__(self, order: _Order) -> None:
        self._tenant = order.tenant
        self._model = metered(order.engine.open(order.environ))
        self._agent = PersonaAgent.open(
            order.database,
            llm=self._model,
            embedder=order.engine.embedder,
            tenant=order.tenant,
            task=order.task,
            options=order.options,
        )

    def __call__(self, users: Sequence[str]) -> _Batch:
        """Return what became of each user; raises if the engine or the database is unusable."""
        before = saved_states(self._agent, users, self._tenant)
        results = self._agent.align(users)
        for _ in range(VERSIONS):
            again = [i for i, one in enumerate(results) if isinstance(one.error, PersonaConflict)]
            rest = self._agent.align([users[i] for i in again])
            for i, result in zip(again, rest, strict=True):
                results[i] = result
        errors = [one.error for one in results if isinstance(one.error, BackendError)]
        if len(errors) == len(results):
            raise errors[0]  # the engine, not the users: another worker may have a better one
        after = saved_states(self._agent, users, self._tenant)
        done = tuple(map(_aligned, users, results, map(eq, before, after)))
        return _Batch(done, self._model.take())

    def close(self) -> None:
        """Close the agent, and with it the model."""
        self._agent.close()


def saved_states(agent: PersonaAgent, users: Sequence[str], tenant: str) -> list[str | None]:
    """Return what is saved of each user's alignment; an alignment that works changes it."""
    return [agent.memory.store.load_alignment(Scope(user, tenant), KEY) for user in users]


def _aligned(user: str, result: Result[Alignment], unchanged: bool) -> Aligned:
    if result.error is not None:
        return Aligned(user, error=result.reason)
    one = result.unwrap()
    return Aligned(
        user,
        one.accepted,
        one.after.version,
        one.rounds,
        len(one.tried),
        one.reason,
        resumed=unchanged,
    )


class _Tally:
    """What is known of a run so far."""

    def __init__(
        self,
        users: Sequence[str],
        gpus: float,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._users = users
        self._gpus = gpus
        self._tell = on_progress
        self._results: dict[str, Aligned] = {}
        self._workers: dict[int, Worker] = {}
        self._ended: list[str] = []
        self._spent = Spent()
        self._busy = 0.0
        self._failed = 0
        self._begun = time.monotonic()

    def note(self, event: Ready | Ended | Failed | Done[_Batch]) -> None:
        news = ""
        if isinstance(event, Ready):
            self._workers[event.worker.number] = event.worker
            news = f"{event.worker} is ready"
        elif isinstance(event, Ended):
            self._workers.pop(event.worker.number, None)
            self._ended.append(event.reason)
            self._busy += event.seconds
            news = event.reason
        elif isinstance(event, Failed):
            self._keep([Aligned(user, error=event.reason) for user in event.users])
        else:
            self._keep(event.value.results)
            self._spent += event.value.spent
            self._busy += event.seconds
        if self._tell is not None:
            self._tell(self._progress(news))

    def report(self) -> Report:
        worked = [one for one in self._results.values() if one.error is None and not one.resumed]
        cost = Cost(
            users=len(worked),
            usage=self._spent.usage,
            seconds=time.monotonic() - self._begun,
            worker_seconds=self._busy,
            engine_seconds=self._spent.seconds,
            gpus=self._gpus,
        )
        return Report(tuple(self._results[user] for user in self._users), tuple(self._ended), cost)

    def _keep(self, results: Sequence[Aligned]) -> None:
        self._failed += sum(one.error is not None for one in results)
        self._results |= {one.user: one for one in results}

    def _progress(self, news: str) -> Progress:
        return Progress(
            users=len(self._users),
            done=len(self._results) - self._failed,
            failed=self._failed,
            workers=tuple(self._workers.values()),
            spent=self._spent,
            seconds=time.monotonic() - self._begun,
            news=news,
        )

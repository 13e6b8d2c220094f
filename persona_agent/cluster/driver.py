"""Workers on Ray that pull batches of users from one queue, and are replaced when they end.

A program cannot be pickled, so what travels is the ids of a batch: each worker is a process that
opens what it needs, its own connections and its own engine, and works through batches. It knows
nothing that is not in the database, so any other can go on where it ended.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from persona_agent.cluster.batches import Batch, Batches
from persona_agent.errors import BackendError
from persona_agent.types import Record

V = TypeVar("V")
Work: TypeAlias = Callable[[Sequence[str]], V]

INSTALL = 'many machines need Ray: pip install "persona-agent-framework[ray]"'
OBJECT_STORE_BYTES = 128 * 2**20  # only ids and short results pass through it
LONGEST_WAIT_S = 1.0
CLOSING_S = 20.0  # how long workers may take at the end to give back what they hold


@dataclass(frozen=True, slots=True)
class Fleet(Record):
    """How many workers there are, where, and how much they may fail.

    `batch` users go to a worker at a time. A batch that is lost is tried `attempts` times in all;
    a worker that fails to open that many times in a row is given up. `address` is a running Ray
    cluster's, None for one of this machine alone, or the one this process is already in. `cpus`
    and `gpus` are what Ray reserves for a worker; an engine that runs inside one needs its GPUs
    there. A worker that takes longer than `open_s` to open, or `batch_s` for a batch, is ended.
    """

    workers: int = 2
    batch: int = 16
    attempts: int = 3
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    open_s: float = 600.0
    batch_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("workers", "batch", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("cpus", "gpus"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("open_s", "batch_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True, slots=True)
class Worker(Record):
    """A worker: its place in the fleet, and, once it is ready, its machine and process."""

    number: int
    node: str = ""
    pid: int = 0

    def __str__(self) -> str:
        where = f" (process {self.pid} on {self.node})" if self.pid else ""
        return f"worker {self.number}{where}"


@dataclass(frozen=True, slots=True)
class Ready(Record):
    """A worker has opened what it needs."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Done(Record, Generic[V]):
    """A worker has done a batch, in so many seconds."""

    worker: Worker
    users: tuple[str, ...]
    value: V
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended(Record):
    """A worker is gone; of its batch, if it had one, `seconds` are lost."""

    worker: Worker
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed(Record):
    """Users for whom there is no further attempt."""

    users: tuple[str, ...]
    reason: str


Event: TypeAlias = Ready | Ended | Failed | Done[V]


def run_many(
    open_worker: Callable[[], Work[V]], users: Sequence[str], fleet: Fleet = Fleet()
) -> Generator[Event[V], None, None]:
    """Give what happens while a fleet works through `users`, as it happens; then the fleet is gone.

    `open_worker` is pickled to every worker and called there once; what it returns is called with
    one batch of users after another. If it has a method `close`, that is called when nothing is
    left to do. If opening raises, the worker is opened again, after a pause; if the work raises, its batch is lost and the worker is replaced. Every user is in exactly one
    Done or Failed, whatever ends in between. Work may have been done in a batch that is lost, and
    is done again: it must be such that twice is as good as once.

    Raises BackendError if Ray is missing or cannot be reached, or if no worker ever opens. Ray
    prints what it has to say about a process that died to standard output, from a thread.
    """
    batches = Batches(users, size=fleet.batch, attempts=fleet.attempts)
    with connected(fleet) as ray:
        run = _Run(ray, open_worker, fleet, batches)
        try:
            yield from run.events()
        finally:
            run.stop()


@contextmanager
def connected(fleet: Fleet) -> Iterator[Any]:  # Any: the module ray, which is an extra
    """Give the module `ray`, connected; a cluster that was started for this is stopped again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that this ran
    try:
        import ray  # heavy, and an extra
    except ImportError as error:
        raise BackendError(INSTALL) from error
    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {"address": fleet.address}
    if fleet.address is None:
        own = {
            "address": "local",
            "num_cpus": max(os.cpu_count() or 1, int(fleet.workers * fleet.cpus + 0.999)),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "on this machine" if fleet.address is None else f"at {fleet.address!r}"
        raise BackendError(f"no Ray cluster {where}: {_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


class Host(Generic[V]):
    """What runs in a worker's process."""

    def __init__(self, open_worker: Callable[[], Work[V]]) -> None:
        self._open = open_worker
        self._work: Work[V] | None = None

    def open(self, pause_s: float) -> tuple[str, int]:
        """Open what the work needs; return the name of this machine and the process number."""
        time.sleep(pause_s)
        self._work = self._open()
        return socket.gethostname(), os.getpid()

    def work(self, users: Sequence[str]) -> V:
        """Return what the work makes of a batch."""
        if self._work is None:
            raise RuntimeError("a worker was given work before it was opened")
        return self._work(users)

    def close(self) -> None:
        """Give back what the work holds, such as an engine's processes, which outlive a kill."""
        close = getattr(self._work, "close", None)  # work that holds nothing has no close
        if close is not None:
            close()


@dataclass(slots=True)
class _Seat:
    """A place in the fleet: the worker who has it, and what that worker is doing since when."""

    worker: Worker
    actor: Any  # a handle, of a class that Ray makes
    since: float
    batch: Batch | None = None
    openings: int = 1  # in a row, without one that succeeded


class _Run(Generic[V]):
    """A fleet at work."""

    def __init__(
        self, ray: Any, open_worker: Callable[[], Work[V]], fleet: Fleet, batches: Batches
    ) -> None:
        self._ray = ray
        self._fleet = fleet
        self._batches = batches
        self._actor = ray.remote(num_cpus=fleet.cpus, num_gpus=fleet.gpus, max_restarts=0)(Host)
        self._open_worker = ray.put(open_worker)
        self._tasks: dict[Any, _Seat] = {}  # by the reference of what they are at
        self._idle: list[_Seat] = []
        self._ever_ready = False

    def events(self) -> Iterator[Event[V]]:
        for number in range(1, min(self._fleet.workers, self._batches.waiting) + 1):
            self._hire(Worker(number), openings=1)
        reason = ""
        while not self._batches.has_ended:
            self._assign()
            if not self._tasks:
                if not self._ever_ready:
                    raise BackendError(f"no worker could be opened: {reason}")
                yield Failed(self._batches.give_up(), f"no worker is left: {reason}")
                return
            for event in self._wait():
                reason = event.reason if isinstance(event, Ended) else reason
                yield event

    def stop(self) -> None:
        """End every worker. Those without a batch close first, also if they are still opening."""
        seats = [*self._tasks.values(), *self._idle]
        closing = [seat.actor.close.remote() for seat in seats if seat.batch is None]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSING_S)
        for seat in seats:
            self._ray.kill(seat.actor)

    def _hire(self, worker: Worker, openings: int) -> None:
        actor = self._actor.remote(self._open_worker)
        pause_s = 0.0 if openings == 1 else 2.0 ** (openings - 2)
        seat = _Seat(worker, actor, time.monotonic(), openings=openings)
        self._tasks[actor.open.remote(pause_s)] = seat

    def _assign(self) -> None:
        while self._idle and (batch := self._batches.take()) is not None:
            seat = self._idle.pop(0)
            seat.batch, seat.since = batch, time.monotonic()
            self._tasks[seat.actor.work.remote(batch.users)] = seat

    def _wait(self) -> Iterator[Event[V]]:
        ready, _ = self._ray.wait(list(self._tasks), timeout=LONGEST_WAIT_S)
        for task in ready:
            yield from self._settle(task, self._tasks.pop(task))
        now = time.monotonic()
        for task, seat in list(self._tasks.items()):
            limit = self._fleet.open_s if seat.batch is None else self._fleet.batch_s
            if now - seat.since > limit:
                del self._tasks[task]
                yield from self._end(seat, self._late(limit, seat.batch))

    def _late(self, limit: float, batch: Batch | None) -> str:
        if batch is not None:
            return f"took more than {limit:g} s for a batch of {len(batch.users)} users"
        free = self._ray.available_resources()
        return (
            f"was not ready within {limit:g} s; it needs {self._fleet.cpus:g} CPU and "
            f"{self._fleet.gpus:g} GPU, of which the cluster has {free.get('CPU', 0):g} and "
            f"{free.get('GPU', 0):g} free"
        )

    def _settle(self, task: Any, seat: _Seat) -> Iterator[Event[V]]:
        """Give what became of a task that has come to an end."""
        try:
            value = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            yield from self._end(seat, f"failed: {_line(error.cause)}")
            return
        except self._ray.exceptions.RayError as error:
            yield from self._end(seat, f"died: {_line(error)}")
            return
        seconds = time.monotonic() - seat.since
        self._idle.append(seat)
        if seat.batch is None:
            seat.worker = Worker(seat.worker.number, *value)
            seat.openings, self._ever_ready = 0, True
            yield Ready(seat.worker)
            return
        batch, seat.batch = seat.batch, None
        self._batches.done(batch)
        yield Done(seat.worker, batch.users, value, seconds)

    def _end(self, seat: _Seat, what: str) -> Iterator[Event[V]]:
        """Give a worker up: hire another in its place, and pass on its batch."""
        self._ray.kill(seat.actor)
        reason = f"{seat.worker} {what}"
        lost = time.monotonic() - seat.since if seat.batch is not None else 0.0
        yield Ended(seat.worker, reason, lost)
        if seat.batch is not None and (users := self._batches.lost(seat.batch)):
            yield Failed(users, f"given up after {self._fleet.attempts} attempts: {reason}")
        if seat.openings < self._fleet.attempts:
            self._hire(Worker(seat.worker.number), seat.openings + 1)


def _line(error: BaseException) -> str:
    """Return an error as one line: its type, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__

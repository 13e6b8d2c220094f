"""What the memory costs: durable adds, searches, cold users, many users in one call.

Beside every figure stands the floor (`floor.py`): a raw driver of the same database and a FAISS
index a user. Both are measured in turns, call by call, so that a noisy machine is as noisy for one
as the other.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from persona_agent.eval.bench import resident
from persona_agent.eval.bench.embedded_postgresql import (
    embedded_postgresql,
    is_installed,
    new_schema,
)
from persona_agent.eval.bench.floor import Floor, PostgresqlRows, SqliteRows
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.index import Index
from persona_agent.memory.store import Store
from persona_agent.memory.user_index import EVENT_BYTES
from persona_agent.types import FloatArray, Interaction, Recalled, RecallRequest, Scope

DIM = 384
K = 10
BATCH_USERS = 64
LOAD = 2000  # memories in one transaction while loading
START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = ("history", "poetry", "crime", "science", "travel", "cooking", "music")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is stored, and how often each thing is measured."""

    memories: int
    users: int
    repeats: int
    largest: int = 0  # memories of one user among many smaller ones; 0 for all the same
    max_bytes: int = 1 << 30

    def counts(self) -> list[int]:
        """Return how many memories each user has: equally many, or heavy-tailed."""
        if not self.largest:
            return [self.memories // self.users] * self.users
        weights = 1 / (np.arange(1, self.users) + 50.0)
        rest = weights / weights.sum() * (self.memories - self.largest)
        return [self.largest, *(max(K, int(count)) for count in rest)]


QUICK = Size(20_000, 200, 600)
NORMAL = Size(100_000, 1_000, 2_000)
LARGE = Size(1_000_000, 10_000, 2_000, largest=100_000)


def run(*, quick: bool) -> dict[str, float]:
    """Return the figures at 100,000 memories, and at a million under keys that begin `large_`.

    Keys that begin `postgresql_` are of an embedded PostgreSQL server, where one is installed.
    """
    if quick:
        return measure(QUICK) | _on_postgresql(QUICK)
    large = {f"large_{name}": value for name, value in measure(LARGE).items()}
    return measure(NORMAL) | large | _on_postgresql(NORMAL)


def _on_postgresql(size: Size) -> dict[str, float]:
    """Return the figures on a PostgreSQL server, with a bare table beside them on the same server."""
    if not is_installed():
        return {}
    with embedded_postgresql() as server:
        figures = measure(size, (new_schema(server, "bench"), server))
    return {f"postgresql_{name}": value for name, value in figures.items() if name != "rss_mb"}


def measure(size: Size, where: tuple[str, str] | None = None) -> dict[str, float]:
    """Return the figures at one size; times are medians in milliseconds unless named otherwise.

    `where` names an empty PostgreSQL schema for us and the server for the floor, by default both
    get a new SQLite file.
    """
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as name:
        folder = Path(name)
        with (
            Store.open(where[0] if where else folder / "ours.db") as store,
            closing(
                Floor(PostgresqlRows(where[1]) if where else SqliteRows(folder / "floor.db"), DIM)
            ) as floor,
        ):
            counts = size.counts()
            loaded = _timed(lambda: _load(store, floor, counts))
            memory = EpisodicMemory(store, _NoEmbedder(), Index("bench", max_bytes=size.max_bytes))
            return {
                "memories": sum(counts),
                "users": len(counts),
                "load_s": round(loaded, 1),
                **_adds(memory, floor, counts, size.repeats),
                **_cold(memory, floor, counts, size.repeats),
                **_searches(memory, floor, counts, size.repeats),
                **_batches(memory, floor, counts, bool(size.largest), max(10, size.repeats // 20)),
                **_big_user(memory, counts, size.repeats),
                **_found(memory, counts),
                **(_resident(folder / "ours.db", size) if where is None else {}),
                "index_mb": memory.index.nbytes / 2**20,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }


def _adds(
    memory: EpisodicMemory, floor: Floor, counts: Sequence[int], repeats: int
) -> dict[str, float]:
    ours, bare = [], []
    for number in range(repeats):
        user = number * 7919 % len(counts)
        vector = _query(user, number)[None]
        one = interaction(user, counts[user] + 10_000_000 + number)
        ours.append(_timed(lambda: memory.add([one], START, vectors=vector)))  # noqa: B023 - run now
        bare.append(_timed(lambda: floor.add([one], vector)))  # noqa: B023
    return {
        "add_p50_ms": _ms(ours),
        "add_p99_ms": _ms(ours, 99),
        "floor_add_p50_ms": _ms(bare),
        "floor_add_p99_ms": _ms(bare, 99),
        "floor_add_ratio": _ms(ours) / _ms(bare),
    }


def _cold(
    memory: EpisodicMemory, floor: Floor, counts: Sequence[int], repeats: int
) -> dict[str, float]:
    ours, bare = [], []
    for user in _some(counts, min(repeats, 300)):
        memory.index.clear()
        floor.clear()
        vector = _query(user, 0)
        ours.append(_timed(lambda: search(memory, user, vector)))  # noqa: B023 - run now
        bare.append(_timed(lambda: floor.search(_name(user), vector, K)))  # noqa: B023
    return {
        "cold_p50_ms": _ms(ours),
        "cold_p99_ms": _ms(ours, 99),
        "floor_cold_p50_ms": _ms(bare),
        "floor_cold_ratio": _ms(ours) / _ms(bare),
    }


def _searches(
    memory: EpisodicMemory, floor: Floor, counts: Sequence[int], repeats: int
) -> dict[str, float]:
    users = _some(counts, min(repeats, 1000))
    ours, bare = [], []
    for number in range(-len(users), repeats):  # the first round warms
        user = users[number % len(users)]
        vector = _query(user, number)
        own = _timed(lambda: search(memory, user, vector))  # noqa: B023 - run now
        raw = _timed(lambda: floor.search(_name(user), vector, K))  # noqa: B023
        if number >= 0:
            ours.append(own)
            bare.append(raw)
    return {
        "search_p50_ms": _ms(ours),
        "search_p99_ms": _ms(ours, 99),
        "floor_search_p50_ms": _ms(bare),
        "floor_search_ratio": _ms(ours) / _ms(bare),
    }


def _batches(
    memory: EpisodicMemory, floor: Floor, counts: Sequence[int], tail: bool, repeats: int
) -> dict[str, float]:
    """Return what a call for 64 users costs; one user far above the rest is measured alone."""
    users = (
        [user + 1 for user in _some(counts[1:], BATCH_USERS)]
        if tail
        else _some(counts, BATCH_USERS)
    )
    ours, bare = [], []
    for number in range(-2, repeats):
        vectors = [_query(user, number) for user in users]
        requests = [_request(user) for user in users]
        own = _timed(lambda: memory.recall(requests, vectors=vectors))  # noqa: B023 - run now
        raw = _timed(partial(_search_each, floor, users, vectors))
        if number >= 0:
            ours.append(own)
            bare.append(raw)
    return {
        "batch64_ms": _ms(ours),
        "floor_batch64_ms": _ms(bare),
        "floor_batch64_ratio": _ms(ours) / _ms(bare),
    }


def _search_each(floor: Floor, users: Sequence[int], vectors: Sequence[FloatArray]) -> None:
    for user, vector in zip(users, vectors, strict=True):
        floor.search(_name(user), vector, K)


def _big_user(memory: EpisodicMemory, counts: Sequence[int], repeats: int) -> dict[str, float]:
    """Return how others' searches suffer while the largest user is loaded anew, again and again."""
    others = _some(counts[1:], 50)

    def median() -> float:
        times = []
        for number in range(repeats // 4):
            user = 1 + others[number % len(others)]
            vector = _query(user, number)
            times.append(_timed(lambda: search(memory, user, vector)))  # noqa: B023 - run now
        return _ms(times)

    def load_the_largest() -> None:
        memory.index.drop(("default", _name(0)))
        search(memory, 0, _query(0, 0))

    vector = _query(0, 1)
    search(memory, 0, vector)
    large = [_timed(lambda: search(memory, 0, vector)) for _ in range(9)]
    median()
    alone = median()
    with _another(load_the_largest):
        beside = median()
    return {
        "largest_user": counts[0],
        "largest_user_search_ms": _ms(large),
        "beside_large_user_ms": beside,
        "beside_large_user_ratio": beside / alone,
    }


def _found(memory: EpisodicMemory, counts: Sequence[int]) -> dict[str, float]:
    """Return recall against brute force over the store's own vectors, and who got too little."""
    hit, wanted, starved = 0, 0, 0
    users = _some(counts, 200)
    for user in users:
        vector = _query(user, 12345)
        ids, rows = memory.store.vectors(Scope(_name(user)), "bench")
        best = np.argsort(-(rows.astype(np.float64) @ vector), kind="stable")[:K]
        expected = {ids[place] for place in best}
        found = {one.interaction.id for one in search(memory, user, vector)}
        hit += len(found & expected)
        wanted += len(expected)
        starved += len(found) < len(expected)
    return {"recall_at_10": hit / wanted, "starved_users": starved}


def _resident(database: Path, size: Size) -> dict[str, float]:
    """Return by how much a process grows that asks for every user under a bound of a quarter.

    Linux only.
    """
    if sys.platform != "linux":
        return {}
    bound = size.memories * (4 * DIM + EVENT_BYTES) // 4
    found = resident.measure(database, bound)
    return {
        "bound_mb": bound / 2**20,
        "resident_growth_mb": found.growth / 2**20,
        "resident_whole_mb": found.whole / 2**20,
    }


def search(memory: EpisodicMemory, user: int, vector: FloatArray) -> Sequence[Recalled]:
    """Return ten whole memories of a user by a vector, through the public API."""
    return memory.recall([_request(user)], vectors=[vector])[0].memories


def interaction(user: int, number: int) -> Interaction:
    """Return a user's memory of this number."""
    return Interaction(
        Scope(_name(user)),
        START + timedelta(minutes=number),
        f"I read book {number}, a work of {TOPICS[number % 7]} from {1900 + number % 120}.",
        response="Thank you for telling me.",
        id=f"{user}-{number}",
    )


def vectors_of(user: int, count: int) -> FloatArray:
    """Return a user's vectors, shape (count, DIM): about one topic, as people are."""
    rng = np.random.default_rng(user)
    rows = rng.standard_normal((count, DIM), np.float32) + 0.5 * rng.standard_normal(
        DIM, np.float32
    )
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class _NoEmbedder:
    """Vectors are given here; embedding is measured elsewhere."""

    name = "bench"
    dim = DIM

    def embed(self, texts: Sequence[str]) -> FloatArray:
        return vectors_of(0, len(texts))  # only the probes of the fingerprint come here


def _load(store: Store, floor: Floor, counts: Sequence[int]) -> None:
    waiting: list[Interaction] = []
    rows: list[FloatArray] = []
    for user, count in enumerate(counts):
        vectors = vectors_of(user, count)
        for start in range(0, count, LOAD):
            some = range(start, min(count, start + LOAD))
            waiting += [interaction(user, number) for number in some]
            rows.append(vectors[some.start : some.stop])
            if len(waiting) >= LOAD or (user == len(counts) - 1 and some.stop == count):
                block = np.concatenate(rows)
                store.add(waiting, block, "bench", now=START)
                floor.add(waiting, block)
                waiting, rows = [], []


def _request(user: int) -> RecallRequest:
    return RecallRequest(Scope(_name(user)), "similar", k=K, max_tokens=1_000_000)


def _name(user: int) -> str:
    return f"user-{user}"


def _query(user: int, number: int) -> FloatArray:
    rng = np.random.default_rng((user, abs(number), 1))
    row = rng.standard_normal(DIM, np.float32)
    return np.asarray(row / np.linalg.norm(row), np.float32)


def _some(counts: Sequence[int], wanted: int) -> list[int]:
    """Return users spread over all sizes, the largest first."""
    step = max(1, len(counts) // wanted)
    return list(range(0, len(counts), step))[:wanted]


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _ms(seconds: Sequence[float], percentile: float = 50) -> float:
    return 1000 * float(np.percentile(seconds, percentile))


@contextmanager
def _another(work: Callable[[], object]) -> Iterator[None]:
    """Repeat `work` in another thread meanwhile."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

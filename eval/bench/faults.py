"""What is lost, doubled, leaked or left when processes die and many write at once: counted.

Over SQLite, and over an embedded PostgreSQL where its package is installed. Every figure but
`kills`, `two_writers_kept`, `operations` and the times is to be 0.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, cast

import numpy as np

from persona_agent.eval.bench.embedded_postgresql import (
    embedded_postgresql,
    is_installed,
    new_schema,
)
from persona_agent.eval.bench.fault_writer import DIM, EMBEDDER
from persona_agent.memory.adapter_files import AdapterFiles
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.failpoint import NAMES
from persona_agent.memory.forget import forget
from persona_agent.memory.index import Index
from persona_agent.memory.lookup import Lookup
from persona_agent.memory.rows import owner_of
from persona_agent.memory.store import Store
from persona_agent.memory.verify import found_in, verify
from persona_agent.types import Interaction, RecallRequest, Scope

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ODD = [
    "o'neil",
    "a/b",
    "%",
    "_",
    " ",
    "user",
    "User",
    "😀",
    "é",
    "e\u0301",
    "a\nb",
    "; DROP TABLE--",
]
WRITER = [sys.executable, "-m", "persona_agent.eval.bench.fault_writer"]


@dataclass(slots=True)
class Counts:
    """What was found so far."""

    kills: int = 0
    acked: int = 0
    acked_lost: int = 0
    index_mismatches: int = 0
    two_writers_kept: int = 0
    duplicate_rows: int = 0
    operations: int = 0
    leaks: int = 0
    missing_own: int = 0
    residue_hits: int = 0
    problems: int = 0
    reopen_ms: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **more: int) -> None:
        """Count more, from any thread."""
        with self.lock:
            for name, count in more.items():
                setattr(self, name, getattr(self, name) + count)


def measure(*, kills: int, operations: int, writes: int = 200, seed: int = 0) -> dict[str, float]:
    """Return the counts over all databases there are, `kills` deaths on each."""
    counts = Counts()
    names = ["sqlite"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = None
        if is_installed():
            server = stack.enter_context(embedded_postgresql())
            names.append("postgresql")
        for name in names:
            rng = random.Random(seed)
            home = folder / name
            home.mkdir()

            def place(part: str, name: str = name, home: Path = home) -> str:
                if name == "sqlite" or server is None:
                    (home / part).mkdir()
                    return str(home / part / "store.db")
                return new_schema(server, f"bench_{part}")

            with _writers() as order:
                _kill_at_random(counts, place("kills"), home, order, kills, rng)
                _two_writers(counts, place("two"), home, order, writes)
            named = [(one, place(one.replace("-", "_"))) for one in NAMES]
            _kill_at_failpoints(counts, named, home / "adapters")
            _same_adds(counts, place("same"))
            _isolate(counts, place("isolation"), operations, seed)
            _forget(counts, place("forget"), home / "forget")
    return {
        "kills": counts.kills,
        "acked": counts.acked,
        "acked_lost": counts.acked_lost,
        "index_mismatches": counts.index_mismatches,
        "two_writers_kept": counts.two_writers_kept / len(names),
        "duplicate_rows": counts.duplicate_rows,
        "operations": counts.operations,
        "leaks": counts.leaks,
        "missing_own": counts.missing_own,
        "residue_hits": counts.residue_hits,
        "verify_problems": counts.problems,
        "reopen_ms": round(counts.reopen_ms, 1),
        "databases": len(names),
    }


class _Order:
    """Starts writers through the process that forks them."""

    def __init__(self, forking: subprocess.Popen[str]) -> None:
        self._in = cast("IO[str]", forking.stdin)
        self._out = cast("IO[str]", forking.stdout)

    def __call__(self, place: str, user: str, prefix: str, count: int, notes: Path) -> int:
        order = {"place": place, "user": user, "prefix": prefix, "count": count}
        self._in.write(json.dumps({**order, "acknowledged": str(notes)}) + "\n")
        self._in.flush()
        return int(self._out.readline())


@contextmanager
def _writers() -> Iterator[_Order]:
    with subprocess.Popen(
        [*WRITER, "fork"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forking:
        yield _Order(forking)


def _kill_at_random(
    counts: Counts, place: str, home: Path, order: _Order, kills: int, rng: random.Random
) -> None:
    Store.open(place).close()
    for number in range(kills):
        user, notes = f"user {number}", home / f"acknowledged {number}"
        pid = order(place, user, f"k{number}-", 1_000_000, notes)
        # a quarter dies while it opens the database, the rest while it writes
        while number % 4 and not (notes.exists() and notes.stat().st_size):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        _gone(pid)
        known = notes.read_text().split("\n")[:-1] if notes.exists() else []
        begun = time.perf_counter()
        with Store.open(place) as store:
            kept = {one.id for one in store.get_all(Scope(user))}
            counts.reopen_ms = max(counts.reopen_ms, (time.perf_counter() - begun) * 1000)
            lookup = Lookup(Scope(user), len(kept) + 10, np.ones(DIM, np.float32))
            with store.snapshot() as snapshot:
                found = Index(EMBEDDER).find(snapshot, [lookup])
        counts.add(
            kills=1,
            acked=len(known),
            acked_lost=len(set(known) - kept),
            index_mismatches=int({hit.id for hit in found.hits[0]} != kept),
        )
    with Store.open(place) as store:
        counts.add(problems=len(verify(store).problems))


def _gone(pid: int) -> None:
    """Wait until a process is no more; its parent does not wait for it."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.002)


def _kill_at_failpoints(counts: Counts, places: list[tuple[str, str]], folder: Path) -> None:
    for name, place in places:
        Store.open(place).close()
        environ = {**os.environ, "PERSONA_AGENT_FAILPOINT": name}
        adapters = folder / name
        done = subprocess.run(
            [*WRITER, place, str(adapters)],
            check=False,
            env=environ,
            capture_output=True,
            text=True,
        )
        if done.returncode != -signal.SIGKILL:
            raise RuntimeError(f"nobody died at {name}: {done.stderr[-500:]}")
        with Store.open(place) as store:
            files = AdapterFiles(store, adapters)
            files.sweep()  # as an agent does that opens the store with its folder
            with store.database.read() as connection:
                unlike = list(files.problems(connection))
            there = {one.id for one in store.get_all(Scope("scripted"))}
            expected: dict[str, set[str]] = {
                "add-before-commit": set(),
                "add-after-commit": {"first"},
                "forget-after-commit": set(),
            }
            wanted = expected.get(name, {"first", "second"})
            counts.add(
                kills=1,
                acked_lost=len(wanted - there),
                problems=len(verify(store).problems) + len(unlike) + len(there - wanted),
            )


def _two_writers(counts: Counts, place: str, home: Path, order: _Order, writes: int) -> None:
    pids = [order(place, "shared", name, writes, home / f"two {name}") for name in ("a", "b")]
    for pid in pids:
        _gone(pid)
    with Store.open(place) as store:
        kept = len(store.get_all(Scope("shared")))
        counts.add(
            two_writers_kept=kept if store.count(Scope("shared")) == kept else 0,
            problems=len(verify(store).problems),
        )


def _same_adds(counts: Counts, place: str) -> None:
    one = Interaction(Scope("same"), NOW, "the same")
    with Store.open(place) as store:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: store.add([one], now=NOW), range(8)))
        counts.add(duplicate_rows=len(store.get_all(one.scope)) - 1)


def _isolate(counts: Counts, place: str, operations: int, seed: int) -> None:
    """Let eight threads work on their own users and read those of others, all with odd ids."""
    scopes = [Scope(user, tenant) for user in ODD for tenant in ODD[:4]]
    with Store.open(place, busy_timeout=60) as store:
        memory = EpisodicMemory(store, HashEmbedder(32))
        store.add([_own(scope, 0) for scope in scopes], now=NOW)

        def work(thread: int) -> None:
            rng = random.Random(seed * 8 + thread)
            mine = {scope: {"0": f"{scope!r} 0"} for scope in scopes[thread::8]}
            for number in range(1, operations // 8 + 1):
                _operate(counts, memory, rng, mine, scopes, number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        counts.add(operations=operations // 8 * 8, problems=len(verify(store).problems))


def _own(scope: Scope, number: int) -> Interaction:
    return Interaction(
        scope, NOW + timedelta(seconds=number), f"{scope!r} {number}", id=str(number)
    )


def _operate(
    counts: Counts,
    memory: EpisodicMemory,
    rng: random.Random,
    mine: dict[Scope, dict[str, str]],
    scopes: list[Scope],
    number: int,
) -> None:
    """Do one operation on a user of one's own, or read somebody else's, and check what comes."""
    scope = rng.choice(list(mine))
    known = mine[scope]
    store = memory.store
    kind = rng.randrange(8)
    if kind == 0:
        memory.add([_own(scope, number)], NOW)
        known[str(number)] = f"{scope!r} {number}"
    elif kind == 1 and len(known) > 20:
        gone = rng.choice(list(known))
        store.delete(scope, gone, NOW)
        del known[gone]
    elif kind == 2:
        found = store.get_all(scope)
        counts.add(missing_own=len(set(known) ^ {one.id for one in found}))
        _check(counts, scope, found)
    elif kind == 3:
        other = rng.choice(scopes)
        _check(counts, other, store.recent(other, 5))
    elif kind == 4:
        nobody = Scope(scope.user, scope.tenant, agent=rng.choice(ODD))
        counts.add(leaks=len(store.get_all(nobody)) + store.count(Scope(scope.user, "nobody's")))
    else:
        other = rng.choice(scopes)
        query = rng.choice([f"{other!r} 0", "DROP", "Scope user tenant"])
        asked = [
            RecallRequest(one, "similar", query, k=10, max_tokens=10**6) for one in (scope, other)
        ]
        own, theirs = memory.recall(asked)
        counts.add(missing_own=int(len(own.memories) != min(10, len(known))))
        _check(counts, scope, [hit.interaction for hit in own.memories])
        _check(counts, other, [hit.interaction for hit in theirs.memories])


def _check(counts: Counts, scope: Scope, found: list[Interaction]) -> None:
    strangers = [
        one
        for one in found
        if owner_of(one.scope) != owner_of(scope) or not one.query.startswith(repr(scope))
    ]
    counts.add(leaks=len(strangers))


def _forget(counts: Counts, place: str, folder: Path) -> None:
    canary = "canary 8c1f"
    with Store.open(place, outbox=("any",)) as store:
        for user in ("ann", "bob"):
            scope, text = Scope(user), f"{canary} {user}"
            events = [Interaction(scope, NOW, f"{text} {i}", id=f"{text} {i}") for i in range(50)]
            store.add(
                events, np.ones((50, DIM), np.float32), EMBEDDER, now=NOW, idempotency_key=text
            )
            store.update(scope, events[0].id, outcome=text, now=NOW)
            store.add_persona(scope, 1, json.dumps({"text": text}), NOW, note=text)
            store.save_alignment(scope, text, text, NOW)
        forget(store, Scope("ann"), NOW)
        hits = len(verify(store, canaries=[f"{canary} ann"]).residue)
        hits += len(list(found_in(folder.rglob("*.*"), [f"{canary} ann"])))
        counts.add(residue_hits=hits, missing_own=50 - len(store.get_all(Scope("bob"))))

"""What the server adds to calling the upstream directly, and how many requests it serves.

64 users talk at once to a stand-in for a model, directly and through the server, whose memory
holds 100,000 memories. Client, server and upstream share this machine's cores, so the figures
are an upper bound of what the server costs where it has its own.

How users come decides what is measured. `added_…`: each asks anew when the last answer is there,
so that 64 requests are under way at any time, and they come when they come. `burst_added_…`: all
ask in the same instant, and the last waits for the 63 before. `requests_per_s`: the upstream
answers at once, and the server never rests; there a request's time is the queue's length.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from persona_agent.eval.bench.embedded_postgresql import embedded_postgresql, new_schema
from persona_agent.eval.bench.serve_process import (
    ADMIN,
    Client,
    Told,
    cpu_seconds,
    figures,
    resident_mb,
    server,
    settle,
    stub_upstream,
)
from persona_agent.memory.embed import open_embedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ANSWER_S = 1.0  # what the stand-in takes for an answer on average, as a small model would
TOPICS = "tea films trains gardens chess cooking violins rivers football history cats painting"
WORDS = "quiet morning old red fast small warm far late early bright green heavy gentle".split()
log = logging.getLogger("persona_agent.eval")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    users: int
    memories: int
    talkers: int
    turns: int

    @classmethod
    def of(cls, *, quick: bool) -> Size:
        """Return the size of a quick or a full measurement."""
        return cls(100, 5_000, 64, 3) if quick else cls(1_000, 100_000, 64, 20)


@dataclass(frozen=True, slots=True)
class Load:
    """How the talkers ask. Loads of the same name ask the same, so that answers can be paired."""

    name: str
    turns: int
    stream: bool = False
    spread_s: float = 0.0  # within which the talkers begin
    together: bool = False  # whether all wait for the last answer before they go on
    may_fail: bool = False  # whether an answer other than 200 is one, too


def measure(
    size: Size,
    *,
    workers: int = 1,
    postgresql: bool = False,
    soak_minutes: float = 0.0,
    embedder: str = "minilm",
    answer_s: float = ANSWER_S,
) -> dict[str, float | None]:
    """Return the figures; times in milliseconds, memory in megabytes.

    `added_…` and `burst_added_…` are quantiles of the differences between the same request through
    the server and directly. `cpu_ms` is the processor time of the server for a request, all that
    it does in the background for it included. The upstream takes `answer_s` for an answer on
    average: the longer, the fewer ask in a second. With `soak_minutes` the load goes on that long,
    and the memory at its end is told, too.
    """
    figures: dict[str, float | None] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-serve-")))
        database = str(folder / "serve.db")
        if postgresql:
            database = new_schema(stack.enter_context(embedded_postgresql()), "bench_serve")
        fill(database, size, embedder)
        slow = stack.enter_context(stub_upstream(1000 * answer_s))
        settings = {
            "workers": str(workers),
            "journal": str(folder / "journal"),
            "embedder": embedder,
        }
        with server(database, slow, settings) as (url, process):
            figures |= _latency(Both(slow, url, process.pid, size, workers), answer_s)
            figures["resident_mb"] = resident_mb(process.pid)
        with ExitStack() as fast_stack:
            fast = fast_stack.enter_context(stub_upstream())
            url, process = fast_stack.enter_context(server(database, fast, settings))
            figures |= _flat_out(Both(fast, url, process.pid, size, workers))
            if soak_minutes:
                figures |= _soak(url, process.pid, size, soak_minutes)
    figures |= {"memories": float(size.memories), "workers": float(workers)}
    return {name: None if v is None else round(v, 2) for name, v in figures.items()}


@dataclass(frozen=True, slots=True)
class Both:
    """The upstream's address, and that of the server before it, with its process."""

    upstream: str
    server: str
    pid: int
    size: Size
    workers: int

    def warm(self) -> None:
        """Let the users be in the caches, of about every worker: a connection is one worker's."""
        for number in range(2 * self.workers if self.workers > 1 else 1):
            self.through(Load(f"warm {number}", 1))
        settle(self.pid)

    def directly(self, load: Load) -> list[Told]:
        """Return what the upstream answers."""
        return asyncio.run(_talk(self.upstream, self.size, load))

    def through(self, load: Load) -> list[Told]:
        """Return what the server answers."""
        return asyncio.run(_talk(f"{self.server}/v1", self.size, load))


def _latency(both: Both, answer_s: float) -> dict[str, float]:
    turns = both.size.turns
    both.warm()
    load = Load("spread", turns, spread_s=answer_s)
    direct = both.directly(load)
    used, begun = cpu_seconds(both.pid), time.perf_counter()
    through = both.through(load)
    rate = len(through) / (time.perf_counter() - begun)
    settle(both.pid)  # what is done in the background is counted
    figures = {
        **_added("added", direct, through),
        "direct_p50_ms": _ms([one.seconds for one in direct], 50),
        "offered_per_s": rate,
        "cpu_ms": 1000 * (cpu_seconds(both.pid) - used) / len(through),
    }
    load = Load("streams", turns, stream=True, spread_s=answer_s)
    direct, streams = both.directly(load), both.through(load)
    first = [t.first_s - d.first_s for d, t in zip(direct, streams, strict=True)]
    figures |= {"added_first_token_ms": _ms(first, 50), "added_first_token_p99_ms": _ms(first, 99)}
    settle(both.pid)
    load = Load("bursts", turns, together=True)
    direct, bursts = both.directly(load), both.through(load)
    figures |= _added("burst_added", direct, bursts)
    figures["degraded"] = float(sum(map(_degraded, (through, streams, bursts))))
    return figures


def _flat_out(both: Both) -> dict[str, float]:
    both.warm()
    begun = time.perf_counter()
    told = both.through(Load("flat out", 2 * both.size.turns))
    return {
        "requests_per_s": len(told) / (time.perf_counter() - begun),
        "requests_p50_ms": _ms([one.seconds for one in told], 50),
        "requests_degraded": float(_degraded(told)),
    }


def fill(database: str, size: Size, spec: str) -> None:
    """Put memories of many users into a database, with vectors of the embedder that is named."""
    rng = random.Random(0)
    texts = [
        f"I like {rng.choice(WORDS)} {rng.choice(TOPICS.split())} and {rng.choice(WORDS)} "
        f"{rng.choice(TOPICS.split())} on a {rng.choice(WORDS)} day"
        for _ in range(500)
    ]
    embedder = open_embedder(spec)
    vectors = embedder.embed(texts)
    each = size.memories // size.users
    with Store.open(database) as store:
        memory = EpisodicMemory(store, embedder)
        for first in range(0, size.users, 10):
            picked = [rng.randrange(len(texts)) for _ in range(10 * each)]
            events = [
                Interaction(
                    Scope(f"user {first + n // each}"),
                    NOW + timedelta(seconds=n),
                    f"{texts[at]} ({n})",
                    id=f"m{n}",
                )
                for n, at in enumerate(picked)
            ]
            memory.add(events, NOW, vectors=np.ascontiguousarray(vectors[picked]))


async def _talk(url: str, size: Size, load: Load) -> list[Told]:
    """Let all talkers talk, each over its own connection; return the answers, talker by talker."""
    every = [_Talker(number, url, size, load) for number in range(size.talkers)]
    try:
        if load.together:
            for _ in range(load.turns):
                await asyncio.gather(*(one.turn() for one in every))
        else:
            await asyncio.gather(*(one.turns() for one in every))
    finally:
        for one in every:
            one.client.close()
    return [answer for one in every for answer in one.told]


class _Talker:
    """A user who asks one question after the other; what it asks is decided by its number."""

    def __init__(self, number: int, url: str, size: Size, load: Load) -> None:
        user = f"user {number * size.users // size.talkers}"
        headers = {"authorization": f"Bearer {ADMIN}", "x-persona-user": user}
        self.client = Client(url.removesuffix("/v1"), headers)
        self.told: list[Told] = []
        self._load = load
        self._rng = random.Random(f"{load.name} {number}")

    async def turns(self) -> None:
        await asyncio.sleep(self._load.spread_s * self._rng.random())
        for _ in range(self._load.turns):
            await self.turn()

    async def turn(self) -> None:
        topic, word = self._rng.choice(TOPICS.split()), self._rng.choice(WORDS)
        which = f"{self._load.name} {len(self.told)}"  # asked again, it would be another outcome
        text = f"What do I think of {topic} and {word} things, in {which}?"
        messages = [{"role": "user", "content": text}]
        body = {"model": "stub", "messages": messages, "stream": self._load.stream}
        answer = await self.client.send("POST", "/v1/chat/completions", body)
        if answer.status != 200 and not self._load.may_fail:
            raise RuntimeError(f"{answer.status}: {answer.body[:200]!r}")
        self.told.append(answer)


def _added(name: str, direct: Sequence[Told], through: Sequence[Told]) -> dict[str, float]:
    more = [t.seconds - d.seconds for d, t in zip(direct, through, strict=True)]
    return {f"{name}_p50_ms": _ms(more, 50), f"{name}_p99_ms": _ms(more, 99)}


def _ms(seconds: Sequence[float], quantile: int) -> float:
    return 1000 * float(np.percentile(seconds, quantile))


def _degraded(told: Sequence[Told]) -> int:
    return sum(one.headers.get("x-persona-memory", "").startswith("degraded") for one in told)


def _soak(url: str, pid: int, size: Size, minutes: float) -> Mapping[str, float]:
    """Go on for so many minutes; return the memory before, in the middle and at the end.

    All of it, what the index takes of it by its own count, and how many turns wait for the store.
    A request that fails does not end it: such are counted, and the first one's answer is logged.
    """
    begun = time.monotonic()
    seen = [_memory(url, pid)]
    answered = failed = 0
    while time.monotonic() < begun + 60 * minutes:
        load = Load(f"soak {len(seen)}", 20, may_fail=True)
        told = asyncio.run(_talk(f"{url}/v1", size, load))
        wrong = [one for one in told if one.status != 200]
        if wrong and not failed:
            log.warning("a request of the soak failed: %d %r", wrong[0].status, wrong[0].body[:200])
        answered += len(told) - len(wrong)
        failed += len(wrong)
        seen.append(_memory(url, pid))
    when = {"first": seen[0], "middle": seen[len(seen) // 2], "last": seen[-1]}
    return {"soak_requests": float(answered), "soak_failed": float(failed)} | {
        f"soak_{name}_{which}": value
        for which, found in when.items()
        for name, value in found.items()
    }


def _memory(url: str, pid: int) -> dict[str, float]:
    told = figures(url)
    return {
        "resident_mb": resident_mb(pid),
        "index_mb": told["persona_agent_index_bytes"] / 2**20,
        "waiting": told["persona_agent_journal_waiting"],
    }

"""What the server adds to calling the upstream directly, and how many requests it serves.

64 users talk at once to a stand-in for a model, directly and through the server, whose memory
holds 100,000 memories. Client, server and upstream share this machine's cores, so the figures
are an upper bound of what the server costs where it has its own.
"""

from __future__ import annotations

import asyncio
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
    resident_mb,
    server,
    stub_upstream,
)
from persona_agent.memory.embed import open_embedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DELAY_MS = 1000.0  # what the stand-in takes for an answer, as a small model would
TOPICS = "tea films trains gardens chess cooking violins rivers football history cats painting"
WORDS = "quiet morning old red fast small warm far late early bright green heavy gentle".split()


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


def measure(
    *, quick: bool = False, workers: int = 1, postgresql: bool = False, soak_minutes: float = 0.0
) -> dict[str, float | None]:
    """Return the figures; times in milliseconds, memory in megabytes.

    `added_…` are differences of quantiles, through the server and directly. `requests_per_s` is
    reached by the talkers without pauses, on an upstream without a delay. With `soak_minutes` the
    load goes on that long, and the memory at its end is told, too.
    """
    size = Size.of(quick=quick)
    figures: dict[str, float | None] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-serve-")))
        database = str(folder / "serve.db")
        if postgresql:
            database = new_schema(stack.enter_context(embedded_postgresql()), "bench_serve")
        fill(database, size)
        slow = stack.enter_context(stub_upstream(DELAY_MS))
        settings = {"workers": str(workers), "journal": str(folder / "journal")}
        with server(database, slow, settings) as (url, process):
            asyncio.run(_talk(url, size, 1, prefix="/v1"))  # caches are warm
            direct = asyncio.run(_talk(slow, size, size.turns))
            through = asyncio.run(_talk(url, size, size.turns, prefix="/v1"))
            figures |= _added(direct, through)
            direct = asyncio.run(_talk(slow, size, size.turns, stream=True))
            through = asyncio.run(_talk(url, size, size.turns, prefix="/v1", stream=True))
            figures["added_first_token_ms"] = _ms([one.first_s for one in through], 50) - _ms(
                [one.first_s for one in direct], 50
            )
            figures["degraded"] = float(_degraded(through))
            figures["resident_mb"] = resident_mb(process.pid)
        with ExitStack() as fast_stack:
            fast = fast_stack.enter_context(stub_upstream())
            url, process = fast_stack.enter_context(server(database, fast, settings))
            asyncio.run(_talk(url, size, 1, prefix="/v1"))
            begun = time.perf_counter()
            flat_out = asyncio.run(_talk(url, size, 2 * size.turns, prefix="/v1"))
            figures["requests_per_s"] = len(flat_out) / (time.perf_counter() - begun)
            figures["requests_degraded"] = float(_degraded(flat_out))
            if soak_minutes:
                figures |= _soak(url, process.pid, size, soak_minutes)
    figures |= {"memories": float(size.memories), "workers": float(workers)}
    return {name: None if v is None else round(v, 2) for name, v in figures.items()}


def fill(database: str, size: Size) -> None:
    """Put memories of many users into a database, with vectors of the real embedder."""
    rng = random.Random(0)
    texts = [
        f"I like {rng.choice(WORDS)} {rng.choice(TOPICS.split())} and {rng.choice(WORDS)} "
        f"{rng.choice(TOPICS.split())} on a {rng.choice(WORDS)} day"
        for _ in range(500)
    ]
    embedder = open_embedder("minilm")
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


async def _talk(
    url: str, size: Size, turns: int, *, prefix: str = "", stream: bool = False
) -> list[Told]:
    """Let all talkers talk at once, each over its own connection; return what was answered."""
    root = url.removesuffix("/v1")

    async def talker(number: int) -> list[Told]:
        rng = random.Random(number)
        user = f"user {number * size.users // size.talkers}"
        client = Client(root, {"authorization": f"Bearer {ADMIN}", "x-persona-user": user})
        told = []
        for turn in range(turns):
            topic = rng.choice(TOPICS.split())
            text = f"What do I think of {topic} and {rng.choice(WORDS)} things, {turn}?"
            messages = [{"role": "user", "content": text}]
            body = {"model": "stub", "messages": messages, "stream": stream}
            answer = await client.send("POST", "/v1/chat/completions", body)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {answer.body[:200]!r}")
            told.append(answer)
        client.close()
        return told

    every = await asyncio.gather(*(talker(number) for number in range(size.talkers)))
    return [one for some in every for one in some]


def _added(direct: Sequence[Told], through: Sequence[Told]) -> dict[str, float | None]:
    once, twice = ([one.seconds for one in told] for told in (direct, through))
    return {
        "added_p50_ms": _ms(twice, 50) - _ms(once, 50),
        "added_p99_ms": _ms(twice, 99) - _ms(once, 99),
        "direct_p50_ms": _ms(once, 50),
    }


def _ms(seconds: Sequence[float], quantile: int) -> float:
    return 1000 * float(np.percentile(seconds, quantile))


def _degraded(told: Sequence[Told]) -> int:
    return sum(one.headers.get("x-persona-memory", "").startswith("degraded") for one in told)


def _soak(url: str, pid: int, size: Size, minutes: float) -> Mapping[str, float]:
    """Go on for so many minutes; return the memory before, in the middle and at the end."""
    begun = time.monotonic()
    seen = [resident_mb(pid)]
    answered = 0
    while time.monotonic() < begun + 60 * minutes:
        answered += len(asyncio.run(_talk(url, size, 20, prefix="/v1")))
        seen.append(resident_mb(pid))
    return {
        "soak_requests": float(answered),
        "soak_resident_first_mb": seen[0],
        "soak_resident_middle_mb": seen[len(seen) // 2],
        "soak_resident_last_mb": seen[-1],
    }

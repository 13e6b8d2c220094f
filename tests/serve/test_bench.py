"""The benchmark of the server runs, small: with workers on PostgreSQL, and alone on SQLite."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from persona_agent.eval.bench import serve, serve_faults
from persona_agent.eval.bench.serve import Load, Size, _talk
from persona_agent.eval.bench.serve_process import Told

pytestmark = [pytest.mark.real("embedder"), pytest.mark.real("faiss")]

KEYS = {
    "added_p50_ms",
    "added_p99_ms",
    "added_first_token_ms",
    "burst_added_p50_ms",
    "requests_per_s",
    "cpu_ms",
}


@pytest.mark.parametrize(
    ("workers", "postgresql"),
    [(1, False), pytest.param(4, True, marks=pytest.mark.real("postgresql"))],
)
def test_a_small_run_has_every_key(workers: int, postgresql: bool) -> None:
    size = Size(users=10, memories=100, talkers=4, turns=2)
    figures = serve.measure(size, workers=workers, postgresql=postgresql)
    assert figures.keys() >= KEYS
    assert (figures["memories"], figures["workers"]) == (100, workers)
    assert figures["requests_per_s"]
    assert figures["cpu_ms"]


def test_a_soak_counts_what_fails_and_goes_on() -> None:
    size = Size(users=4, memories=40, talkers=2, turns=1)
    figures = serve.measure(size, soak_minutes=0.01, embedder="static")
    assert figures["soak_requests"]
    assert figures["soak_failed"] == 0
    assert figures["soak_resident_mb_last"]
    told = asyncio.run(refused(Load("refused", 2, may_fail=True)))
    assert [one.status for one in told] == [503, 503]
    with pytest.raises(RuntimeError, match="503"):
        asyncio.run(refused(Load("refused", 2)))


async def refused(load: Load) -> list[Told]:
    """Return what a talker is told by a server that is busy."""

    left = asyncio.Event()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r")[0]))
                writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()
        left.set()

    server = await asyncio.start_server(busy, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        size = Size(users=1, memories=0, talkers=1, turns=1)
        return await _talk(f"http://127.0.0.1:{port}/v1", size, load)
    finally:
        await left.wait()
        server.close()


def test_a_small_attack_leaks_nothing_and_a_kill_loses_nothing() -> None:
    figures = serve_faults.measure(operations=160, kills=1)
    assert figures["operations"] == 160
    assert (figures["leaks"], figures["server_errors"], figures["acknowledged_lost"]) == (0, 0, 0)

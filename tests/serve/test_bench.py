"""The benchmark of the server runs, small: with workers on PostgreSQL, and alone on SQLite."""

from __future__ import annotations

import pytest

from persona_agent.eval.bench import serve, serve_faults
from persona_agent.eval.bench.serve import Size

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


def test_a_small_attack_leaks_nothing_and_a_kill_loses_nothing() -> None:
    figures = serve_faults.measure(operations=160, kills=1)
    assert figures["operations"] == 160
    assert (figures["leaks"], figures["server_errors"], figures["acknowledged_lost"]) == (0, 0, 0)

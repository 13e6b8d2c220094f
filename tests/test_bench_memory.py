"""The benchmark of the memory measures what it says it does."""

from __future__ import annotations

import pytest

from persona_agent.eval.bench import memory as bench_memory
from persona_agent.eval.bench.memory import Size

pytestmark = pytest.mark.real("faiss")

KEYS = {
    "add_p50_ms",
    "add_p99_ms",
    "search_p50_ms",
    "recall_at_10",
    "starved_users",
    "batch64_ms",
    "cold_p50_ms",
    "floor_add_ratio",
    "floor_search_ratio",
}


def test_a_small_run_has_every_key_and_finds_everything() -> None:
    figures = bench_memory.measure(Size(600, 6, 20, largest=200))
    assert figures.keys() >= KEYS
    assert figures["recall_at_10"] == 1
    assert figures["starved_users"] == 0
    assert all(value >= 0 for value in figures.values())


def test_sizes_are_even_or_heavy_tailed() -> None:
    assert Size(100, 10, 1).counts() == [10] * 10
    counts = Size(1_000_000, 10_000, 1, largest=100_000).counts()
    assert counts[0] == 100_000
    assert sum(counts) == pytest.approx(1_000_000, rel=0.01)
    assert counts[1] > 10 * counts[-1]

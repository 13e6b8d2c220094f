"""Killed writers, crowds and full disks: a small round of `bench faults`, and what only tests do."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persona_agent.eval.bench import faults as bench_faults
from persona_agent.memory.failpoint import NAMES
from persona_agent.memory.store import Store
from persona_agent.memory.verify import verify
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")

FILLER = """
import resource, signal, sys
from datetime import UTC, datetime
from persona_agent.errors import StoreError
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope
now = datetime(2026, 11, 23, tzinfo=UTC)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store.open(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    for i in range(10_000):
        try:
            store.add([Interaction(Scope("ann"), now, "x" * 2000, id=f"e{i}")], now=now)
        except StoreError as error:
            print(error)
            break
        print(i, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.add([Interaction(Scope("ann"), now, "room again", id="last")], now=now)
"""


@pytest.mark.real("postgresql")
def test_nothing_is_lost_doubled_leaked_or_left() -> None:
    found = bench_faults.measure(kills=3, operations=240, writes=30)
    assert found["databases"] == 2
    assert found["kills"] == 2 * (3 + len(NAMES))
    assert found["acked"] > 0
    assert found["two_writers_kept"] == 60
    assert found["operations"] == 480
    zero = ("acked_lost", "index_mismatches", "duplicate_rows", "leaks", "missing_own")
    assert {name: found[name] for name in (*zero, "residue_hits", "verify_problems")} == (
        dict.fromkeys((*zero, "residue_hits", "verify_problems"), 0)
    )


def test_a_full_disk_is_told_and_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(path).close()
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(path)], capture_output=True, text=True, check=True
    )
    *acknowledged, error = done.stdout.splitlines()
    assert "the disk is full" in error or "the disk reports an error" in error
    assert str(path) in error
    with Store.open(path) as store:
        kept = {one.id for one in store.get_all(ANN)}
        assert kept == {f"e{number}" for number in acknowledged} | {"last"}
        assert verify(store).ok


def test_a_misspelt_failpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_AGENT_FAILPOINT", "no-such-place")
    done = subprocess.run(
        [sys.executable, "-c", "import persona_agent.memory.failpoint"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "known: add-before-commit" in done.stderr


def test_eight_identical_adds_at_once_make_one_row(store: Store) -> None:
    one = Interaction(ANN, NOW, "the same")
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda _: store.add([one], now=NOW)[0].event, range(8)))
    assert sorted(added) == ["ADD", *["SKIP"] * 7]
    assert store.count(ANN) == len(store.get_all(ANN)) == 1

"""What goes wrong with a database: each a clear error, nothing half-written, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import StoreError
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
NOT_JSON: Any = {"a": object()}  # Any: what a caller without a type checker may pass

WRITER = """
import sys
from datetime import UTC, datetime
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope
path, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
now = datetime(2026, 11, 23, tzinfo=UTC)
with Store.open(path, busy_timeout=20) as store:
    for i in range(count):
        one = Interaction(Scope("ann"), now, f"{prefix} {i}", id=f"{prefix}{i}")
        assert store.add([one], now=now)[0].event == "ADD"
        print(one.id, flush=True)
"""

OPENER = """
import os, sys
from persona_agent.memory.store import Store
from persona_agent.errors import StoreError
Store.open(":memory:").close()  # loads all that it needs, which nobody may read
os.setgid(65534); os.setuid(65534)
try:
    Store.open(sys.argv[1]).close()
except StoreError as error:
    print(error)
"""


def one(number: int = 0) -> Interaction:
    return Interaction(ANN, NOW, f"query {number}", id=f"e{number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a store that holds one interaction."""
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        store.add([one()], now=NOW)
    return path


def test_a_newer_database_is_refused_with_both_versions(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    raw.commit()
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"version 999.*up to \d+\. .*pip install --upgrade"):
        Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE meta SET value = 'x'",
        "DELETE FROM meta",
        "DROP TABLE meta",
        "ALTER TABLE meta RENAME COLUMN value TO other",
        "UPDATE meta SET value = '0'",
        "DROP TABLE alignments",
    ],
)
def test_a_damaged_schema_is_refused(path: Path, damage: str) -> None:
    raw = sqlite3.connect(path)
    raw.execute(damage)
    raw.commit()
    raw.close()
    with pytest.raises(StoreError, match="version"):
        Store.open(path)


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE moz_places (id INTEGER)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"another program.*moz_places"):
        Store.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 200)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(path)
    assert path.read_text() == "dear diary, " * 200


def test_a_truncated_database_is_an_error_not_an_empty_store(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="damaged"), Store.open(path) as store:
        store.get_all(ANN)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("nowhere/store.db", "no folder"),
        (".", "is a folder"),
        ("mysql://localhost/x", "use sqlite or postgresql"),
        ("://", "not a database URL"),
        ("", "path is empty"),
    ],
)
def test_a_wrong_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=says):
        Store.open(where)
    assert list(tmp_path.iterdir()) == []


def test_a_url_opens_the_same_database(path: Path) -> None:
    with Store.open(f"sqlite:///{path}") as store:
        assert store.get(ANN, "e0") == one()


def test_a_locked_database_is_an_error_after_the_timeout(path: Path) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Store.open(path, busy_timeout=0.05) as store:
        with pytest.raises(StoreError, match=r"locked.*another process.*0.05 s"):
            store.add([one(1)], now=NOW)
        assert store.count(ANN) == 1  # readers go on
        holder.execute("ROLLBACK")
        holder.close()
        assert store.add([one(1)], now=NOW)[0].event == "ADD"


def test_a_read_only_connection_is_a_clear_error(path: Path) -> None:
    with (
        Store.open(f"sqlite:///file:{path}?mode=ro&uri=true") as store,
        pytest.raises(StoreError, match="read-only"),
    ):
        store.add([one(1)], now=NOW)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Give a folder that another account of this machine can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become another account")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_read_only_files_and_folders_are_refused(public_folder: Path, kind: str) -> None:
    path = public_folder / "store.db"
    Store.open(path).close()
    path.chmod(0o666 if kind == "folder" else 0o444)
    if kind == "file":
        public_folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", OPENER, str(path)], capture_output=True, text=True, check=True
    )
    assert "read-only" in done.stdout
    assert sorted(file.name for file in public_folder.iterdir()) == ["store.db"]


def test_a_failed_batch_stores_nothing(path: Path) -> None:
    with Store.open(path) as store:
        many = [one(1), Interaction(Scope("bob"), NOW, "x", metadata={"a": [1, 2]})]
        assert store.add(many, now=NOW)[1].event == "ADD"
        bad = Interaction(Scope("bob"), NOW, "y", metadata=NOT_JSON)
        with pytest.raises(TypeError):
            store.add([one(2), bad], now=NOW)
        assert store.count(ANN) == 2


def test_two_processes_keep_everything_each_adds(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name, "50"], stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Store.open(path) as store:
        assert store.count(ANN) == len(store.get_all(ANN)) == 100


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    acknowledged: list[str] = []
    for run, delay in enumerate((0.01, 0.03, 0.08, 0.15, 0.25)):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"r{run}-", "100000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        acknowledged.append(writer.stdout.readline().strip())
        killer = threading.Timer(delay, os.kill, (writer.pid, signal.SIGKILL))
        killer.start()
        rest, _ = writer.communicate(timeout=60)
        killer.join()
        acknowledged += [line for line in rest.split("\n")[:-1] if line]
        with Store.open(path) as store:
            kept = store.get_all(ANN)
            assert {one.id for one in kept} >= set(acknowledged)
            assert store.count(ANN) == len(kept) <= len(acknowledged) + run + 1
            assert all(store.history(ANN, one.id)[0].action == "ADD" for one in kept[-3:])
    assert len(acknowledged) > 5

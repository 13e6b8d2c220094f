"""The commands on the store, as a person types them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.cli import main
from persona_agent.memory.adapter_files import (
    WEIGHTS,
    AdapterFiles,
    adapters_path,
    digest_of,
)
from persona_agent.memory.adapter_rows import Adapter, Source, hashes_of
from persona_agent.memory.adapters import begin
from persona_agent.memory.jobs import MAX_ATTEMPTS, Jobs
from persona_agent.memory.screen import Screen
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")
KEY = "sk-" + "abcdefghij0123456789ABCD"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Give a database with two users and what an audit should find."""
    path = tmp_path / "persona.db"
    with Store.open(path, screen=Screen(secrets="off"), outbox=("facts",)) as store:
        said = ["I like tea\u2028a lot", "ok", "I like rain", "I like rain", f"my key is {KEY}"]
        store.add([Interaction(ANN, NOW, q, id=f"e{i}") for i, q in enumerate(said)], now=NOW)
        store.add([Interaction(Scope("bob"), NOW, "canary of bob")], now=NOW)
    return path


def call(db: Path, *arguments: str, code: int = 0, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with --json and return what it printed, read as JSON where it is some."""
    command = ["--db", str(db), "--json", *arguments]
    if code:
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == code
    else:
        main(command)
    out = capsys.readouterr().out
    return json.loads(out.splitlines()[0]) if out else None  # Any: what was printed


def test_forget_tells_then_does_then_verify_agrees(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = call(db, "forget", "bob", "--dry-run", capsys=capsys)
    assert (told["dry_run"], told["rows"]["events"]) == (True, 1)
    found = call(db, "verify", "--canary", "canary of bob", code=1, capsys=capsys)
    assert found["residue"]
    assert call(db, "forget", "bob", "--yes", capsys=capsys)["rows"]["events"] == 1
    found = call(db, "verify", "--canary", "canary of bob", capsys=capsys)
    assert (found["problems"], found["residue"], found["users"]) == ([], [], 1)
    folder = str(db.parent)
    assert call(db, "verify", "--canary", "bob", "--folder", folder, capsys=capsys)["residue"] == []


def test_a_saved_index_is_forgotten_too(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PersonaAgent.open(db, llm=None, embedder="hash") as agent:
        for user in ("bob", "ann"):
            agent.search("canary", user_id=user)
        agent.memory.save_index()
    assert call(db, "verify", "--canary", "bob", code=1, capsys=capsys)["residue"]
    call(db, "forget", "bob", "--yes", capsys=capsys)
    assert call(db, "verify", "--canary", "bob", capsys=capsys)["residue"] == []
    with PersonaAgent.open(db, llm=None, embedder="hash") as agent:
        assert agent.search("tea", user_id="ann").results
        agent.memory.save_index()
        agent.forget("ann")
    assert call(db, "verify", "--canary", "ann", capsys=capsys)["residue"] == []


def test_export_and_import(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "ann.jsonl")
    call(db, "export", "ann", file, capsys=capsys)
    call(db, "export", "nobody", code=1, capsys=capsys)
    assert call(db, "import", file, capsys=capsys)["events"] == 0
    assert call(db, "import", file, "--user", "eve", capsys=capsys)["events"] == 5
    with Store.open(db) as store:
        copied = [one.query for one in store.get_all(Scope("eve"))]
        assert copied[:4] == [one.query for one in store.get_all(ANN)][:4]
        assert KEY not in copied[4]
    call(db, "import", str(tmp_path / "nowhere"), code=1, capsys=capsys)


def test_audit_finds_and_redacts(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = call(db, "audit", capsys=capsys)
    assert [(one["event"], one["kind"]) for one in found] == [
        ("e1", "boilerplate"),
        ("e3", "repeated"),
        ("e4", "secret:api_key"),
    ]
    call(db, "audit", "--redact", capsys=capsys)
    assert len(call(db, "audit", capsys=capsys)) == 2
    for file in db.parent.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_redacting_takes_what_learned_the_secret(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(db) as store:
        files = AdapterFiles(store, adapters_path(db))
        for name, user, event in (("of-ann", "ann", "e4"), ("other", "ann", "e0")):
            with files.making(name) as folder:
                with store.database.read() as connection:
                    known = hashes_of(connection, ("default", user), [event])
                adapter = Adapter(name, "default", user, name, "local", "b", NOW)
                begin(store, adapter, [Source(user, event, known[event])])
                (folder / WEIGHTS).write_text(f"has learned of {event}")
                files.publish(replace(adapter, digest=digest_of(folder)))
    call(db, "audit", capsys=capsys)
    assert len(call(db, "adapters", "list", capsys=capsys)) == 2
    call(db, "audit", "--redact", capsys=capsys)
    assert [one["name"] for one in call(db, "adapters", "list", capsys=capsys)] == ["other"]
    assert [one.name for one in adapters_path(db).iterdir()] == ["other"]
    assert call(db, "verify", capsys=capsys)["problems"] == []


def test_jobs_are_listed_retried_and_asked_for(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(call(db, "jobs", "list", capsys=capsys)) == 2
    with Store.open(db) as store:
        hands = Jobs(store)
        for _ in range(2 * MAX_ATTEMPTS):
            job = hands.claim(["facts"], datetime(2900, 1, 1, tzinfo=UTC))
            assert job is not None
            hands.fail(job, "no model", NOW)
    dead = call(db, "jobs", "list", "--state", "dead", capsys=capsys)
    assert [one["error"] for one in dead] == ["no model"] * 2
    assert call(db, "jobs", "retry", "other", capsys=capsys) == {"retried": 0}
    assert call(db, "jobs", "retry", dead[0]["id"], capsys=capsys) == {"retried": 1}
    assert call(db, "jobs", "retry", capsys=capsys) == {"retried": 1}
    assert call(db, "jobs", "request", capsys=capsys) == {"requested": 2}
    figures = call(db, "stats", capsys=capsys)
    assert figures["rows"]["events"] == 6
    assert figures["jobs"] == {"retry": 2, "waiting": 2}

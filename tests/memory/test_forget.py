"""Forgetting forgets: rows, bytes, what was made of them, and jobs in flight; others keep theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import InputError, UnknownUser
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.fact_rows import JOB, all_facts, fact_job, facts_of
from persona_agent.memory.forget import forget
from persona_agent.memory.jobs import Jobs, run_jobs
from persona_agent.memory.store import Store
from persona_agent.memory.transfer import export, import_
from persona_agent.memory.verify import files_of, found_in, verify
from persona_agent.persona import Persona, PersonaLine
from persona_agent.personas import Personas, first
from persona_agent.types import Interaction, ModelRequest, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ANN = Scope("ann")
BOB = Scope("bob")
CANARY = 'canary "Zwölf"'


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    """Give an empty store that extracts facts."""
    with Store.open(where, outbox=(JOB,)) as opened:
        yield opened


def event(number: int, scope: Scope = ANN) -> Interaction:
    when = NOW + timedelta(days=number)
    return Interaction(scope, when, f"{CANARY} {scope.user} {number}", id=f"{scope.user}{number}")


def facts(*texts: tuple[str, list[int], list[int]]) -> FakeLLM:
    items = [
        {"text": text, "kind": "preference", "events": proof, "confidence": 1, "untrue": untrue}
        for text, proof, untrue in texts
    ]
    return FakeLLM(lambda request: json.dumps({"facts": items}))


def extract(store: Store, llm: FakeLLM) -> None:
    ran = run_jobs(store, {JOB: fact_job(llm)}, clock=lambda: LATER)
    assert {one.end for one in ran} == {"done"}


def fill(store: Store, scope: Scope) -> None:
    store.add([event(i, scope) for i in range(3)], np.eye(3, 4, dtype=np.float32), "h", now=NOW)
    extract(store, facts((f"Likes {CANARY}", [1, 2], [])))
    store.update(scope, f"{scope.user}0", outcome=CANARY, now=NOW)
    lines = (PersonaLine(f"Talks of {CANARY}", (f"{scope.user}0",), "summary"),)
    Personas(store, lambda: NOW).save(first(Persona(scope, lines)))
    store.save_alignment(scope, CANARY, CANARY, NOW)
    store.add([event(9, scope)], now=NOW, idempotency_key=CANARY)


def test_a_dry_run_tells_and_changes_nothing(store: Store) -> None:
    fill(store, ANN)
    told = forget(store, ANN, NOW, dry_run=True)
    assert {name: count for name, count in told.rows.items() if count} == {
        "receipts": 1,
        "jobs": 1,
        "evidence": 2,
        "facts": 1,
        "alignments": 1,
        "personas": 1,
        "changes": 5,
        "vectors": 2,
        "events": 4,
        "users": 1,
    }
    assert store.count(ANN) == 4
    assert forget(store, ANN, NOW).rows == told.rows


def test_nothing_is_left_and_others_keep_all(store: Store) -> None:
    for scope in (ANN, BOB):
        fill(store, scope)
    receipt = forget(store, ANN, LATER)
    assert receipt.log_emptied
    assert "ann" not in str(receipt)
    assert not any(forget(store, ANN, LATER).rows.values())
    assert verify(store, canaries=[f"{CANARY} ann"]).ok
    assert verify(store, canaries=[f"{CANARY} bob"]).residue
    assert len(store.get_all(BOB)) == 4
    assert len(all_facts(store, BOB)) == 1
    assert store.users() == ["bob"]


def test_no_byte_is_left_in_any_file(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db", outbox=(JOB,)) as store:
        fill(store, ANN)
        files = files_of(tmp_path / "store.db")
        assert len(files) == 3
        assert list(found_in(files, [CANARY]))
        assert forget(store, ANN, NOW).log_emptied
        assert list(found_in(tmp_path.iterdir(), [CANARY, "ann"])) == []
    assert list(found_in(tmp_path.iterdir(), [CANARY, "ann"])) == []


def test_a_reader_who_holds_the_log_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db", busy_timeout=0.05) as store:
        store.add([event(0)], now=NOW)
        with store.snapshot() as reader:
            assert reader.count(ANN) == 1
            receipt = forget(store, ANN, NOW)
            assert not receipt.log_emptied
            assert "forget again" in str(receipt)
        assert forget(store, ANN, NOW).log_emptied
        assert list(found_in(tmp_path.iterdir(), [CANARY])) == []


def test_a_job_in_flight_brings_nothing_back(store: Store) -> None:
    store.add([event(0)], now=NOW)

    def overtaken(request: ModelRequest) -> str:
        forget(store, ANN, NOW)
        store.add([event(5)], now=LATER)
        item = {"text": f"Likes {CANARY}", "kind": "preference", "events": [1]}
        return json.dumps({"facts": [{**item, "confidence": 1, "untrue": []}]})

    job = fact_job(FakeLLM(overtaken))
    ran = run_jobs(store, {JOB: job}, clock=lambda: NOW, limit=1)
    assert [one.end for one in ran] == ["lost"]
    assert all_facts(store, ANN) == []


def test_an_alignment_in_flight_brings_nothing_back(store: Store) -> None:
    store.add([event(0)], now=NOW)
    epoch = store.epoch(ANN)
    forget(store, ANN, NOW)
    assert store.epoch(ANN) is None
    with pytest.raises(UnknownUser, match="was forgotten"):
        store.add_persona(ANN, 1, CANARY, NOW)
    with pytest.raises(UnknownUser, match="was forgotten"):
        store.save_alignment(ANN, "a", CANARY, NOW)
    assert store.users() == []
    store.add([event(1)], now=LATER)
    with pytest.raises(UnknownUser, match="was forgotten"):
        store.add_persona(ANN, 1, CANARY, NOW, epoch=epoch)
    with pytest.raises(UnknownUser, match="was forgotten"):
        store.save_alignment(ANN, "a", CANARY, NOW, epoch=epoch)
    store.add_persona(ANN, 1, "{}", NOW, epoch=store.epoch(ANN))
    assert verify(store).ok


def test_forgetting_an_event_takes_what_was_made_of_it(store: Store) -> None:
    store.add([event(i) for i in range(3)], now=NOW)
    extract(store, facts(("Likes tea", [1], []), ("Likes milk", [2], [])))
    store.add([event(3), event(4)], now=NOW)
    extract(store, facts(("Prefers coffee", [1, 2], [1])))
    lines = (
        PersonaLine("said by a model", ("ann1", "ann3"), "summary"),
        PersonaLine("rests on that alone", ("ann3",), "miner"),
        PersonaLine("a statistic", ("ann1", "ann3"), "statistics"),
        PersonaLine("about another", ("ann1",), "summary"),
        PersonaLine("the user's own", ("ann3",), "user"),
        PersonaLine("locked", ("ann3",), "summary", locked=True),
    )
    versions = Personas(store, lambda: NOW)
    versions.save(first(Persona(ANN, lines)))
    store.save_alignment(ANN, "a", CANARY, NOW)
    store.delete(ANN, "ann3", NOW)
    assert [one.text for one in facts_of(store, ANN)] == ["Likes tea", "Likes milk"]
    assert len(all_facts(store, ANN)) == 2
    assert store.alignments(ANN) == []
    (job,) = Jobs(store).list()  # what the other event says is to be found again
    assert (job.kind, job.first_seq, job.last_seq) == (JOB, 4, 4)
    head = versions.head(ANN)
    assert head is not None
    assert [(line.text, line.evidence) for line in head.lines] == [
        ("a statistic", ("ann1",)),
        ("about another", ("ann1",)),
        ("the user's own", ()),
        ("locked", ()),
    ]
    assert head.note == "evidence was deleted: 2 lines dropped, 3 rest on less"
    assert verify(store).ok


def test_an_export_comes_back_whole(store: Store) -> None:
    fill(store, ANN)
    lines = list(export(store, ANN))
    before = store.get_all(ANN), all_facts(store, ANN), store.personas(ANN)
    assert import_(store, lines, NOW).to_json() == {
        "events": 0,
        "facts": 0,
        "personas": 0,
        "summaries": 0,
    }
    forget(store, ANN, NOW)
    done = import_(store, lines, LATER, trusted=True)
    assert (done.events, done.facts, done.personas) == (4, 1, 1)
    assert (store.get_all(ANN), all_facts(store, ANN)) == before[:2]
    assert json.loads(store.personas(ANN)[0].document) == json.loads(before[2][0].document)
    import_(store, lines, LATER, scope=Scope("eve", "other"))
    assert len(store.get_all(Scope("eve", "other"))) == 4
    copied = Personas(store, lambda: NOW).head(Scope("eve", "other"))
    assert copied is not None
    assert copied.scope == Scope("eve", "other")
    assert [job.scope.user for job in Jobs(store).list()] == ["ann"]  # untrusted: nothing is made
    assert verify(store).ok


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2"),
        ('{"type": "event"}', "'trust' is missing"),
        ('{"type": "thing"}', "its type is 'thing'"),
        ("[1]", "line 2"),
        ('{"type": "fact", "kind": "x", "text": "y"}', "of kind 'x'"),
        ('{"type": "event", "trust": "root"}', "trust is 'root'"),
    ],
)
def test_what_is_no_export_is_refused_whole(line: str, says: str) -> None:
    with Store.open(":memory:") as store:
        store.add([event(0)], now=NOW)
        lines = [*export(store, ANN)]
        with pytest.raises(InputError, match=says):
            import_(store, [lines[0], line, lines[1]], NOW, scope=BOB)
        with pytest.raises(InputError, match="first line"):
            import_(store, lines[1:], NOW)
        with pytest.raises(InputError, match="empty"):
            import_(store, [], NOW)
        assert store.users() == ["ann"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE events SET query = 'other'", "was altered"),
        ("UPDATE users SET event_count = 9", "9 are counted"),
        ("UPDATE users SET next_seq = 0", "numbered beyond"),
        ("DELETE FROM evidence", "rests on no event"),
        ("UPDATE facts SET superseded_by = 'x'", "successor that is not there"),
    ],
)
def test_verify_finds_what_is_wrong(store: Store, damage: str, says: str) -> None:
    fill(store, ANN)
    assert verify(store).ok
    with store.database.write() as connection:
        connection.exec_driver_sql(damage)
    found = verify(store)
    assert not found.ok
    assert any(says in one for one in found.problems)
    assert says in str(found)

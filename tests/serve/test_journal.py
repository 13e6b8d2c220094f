"""The journal: what was put is in the store at last, through failures, deaths and forgetting."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import BackendError, StoreError
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.forget import forget
from persona_agent.memory.store import Store
from persona_agent.serve.journal import REJECTED, Journal
from persona_agent.serve.segments import LOCK, SUFFIX, Entry
from persona_agent.serve.turns import Turns, turn
from persona_agent.types import RecallRequest, Scope
from tests.memory.test_glance import no_transaction
from tests.serve.conftest import until

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")


def entry(number: int, user: str = "ann", **more: Any) -> Entry:
    given = {"fingerprint": f"f{number}", "before": None, "model": "m", "cut": False} | more
    when = NOW + timedelta(seconds=number)
    return turn(Scope(user), f"t{number}", when, f"question {number}", f"answer {number}", **given)


def turns(store: Store, embedder: Any = None) -> Turns:
    memory = EpisodicMemory(store, embedder or HashEmbedder())
    return Turns(memory, clock=lambda: NOW + timedelta(hours=1), implicit=True)


def test_what_was_put_is_stored_and_the_file_is_empty_then(store: Store, tmp_path: Path) -> None:
    with Journal(tmp_path / "j", turns(store).apply) as journal:
        for future in [journal.put(entry(i)) for i in range(50)]:
            future.result(60)
        assert journal.drain(60)
        assert journal.waiting == 0
        (file,) = (tmp_path / "j").glob(f"*{SUFFIX}")
        assert file.read_text() == ""
    assert store.count(ANN) == 50
    assert list((tmp_path / "j").iterdir()) == []


def test_a_store_that_fails_keeps_turns_waiting_and_gets_them_later(
    store: Store, tmp_path: Path
) -> None:
    works = threading.Event()
    tried = threading.Event()

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        tried.set()
        if not works.is_set():
            raise StoreError("the disk is full")
        return turns(store).apply(entries)

    with Journal(tmp_path, apply) as journal:
        journal.put(entry(1)).result(60)
        assert tried.wait(60)
        assert journal.waiting == 1
        works.set()
        assert journal.drain(60)
    assert store.count(ANN) == 1


DIES = """
import os, sys
from pathlib import Path
from persona_agent.errors import StoreError
from persona_agent.serve.journal import Journal
from tests.serve.test_journal import entry

def never(entries):
    raise StoreError("no")

journal = Journal(Path(sys.argv[1]), never)
for number in range(20):
    journal.put(entry(number)).result(60)
with next(Path(sys.argv[1]).glob("*.turns")).open("a") as file:
    file.write('{"half a li')
os.kill(os.getpid(), 9)
"""


def test_a_journal_that_is_closed_too_early_ends_after_the_batch_under_way(
    store: Store, tmp_path: Path
) -> None:
    begun, goes_on, batches = threading.Event(), threading.Event(), []

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        batches.append(len(entries))
        begun.set()
        assert goes_on.wait(60)
        return turns(store).apply(entries)

    journal = Journal(tmp_path, apply)
    journal.put(entry(1)).result(60)
    assert begun.wait(60)
    for number in range(2, 9):
        journal.put(entry(number)).result(60)
    release = threading.Thread(target=lambda: journal._closing.wait(60) and goes_on.set())
    release.start()
    journal.close(4)  # to drain is given up first; the batch then has as long to end
    release.join(60)
    assert batches == [1]
    assert not any(thread.is_alive() for thread in journal._threads)
    with Journal(tmp_path, turns(store).apply) as heir:
        assert heir.waiting == 8  # the first once more, under the same id
        until(lambda: not heir.waiting)
    assert store.count(ANN) == 8


def test_a_batch_that_outlasts_the_closing_keeps_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        begun.set()
        assert goes_on.wait(60)
        return ()

    journal = Journal(tmp_path, apply)
    journal.put(entry(1)).result(60)
    assert begun.wait(60)
    journal.close(0.05)
    assert "still being stored" in caplog.text
    with Journal(tmp_path, list) as other:
        assert other.waiting == 0  # nobody takes from it what it is storing
    goes_on.set()
    for thread in journal._threads:
        thread.join(60)
    assert journal.waiting == 0


def test_how_many_wait_is_told_as_it_changes(store: Store, tmp_path: Path) -> None:
    told: list[int] = []
    with Journal(tmp_path, turns(store).apply, tell=told.append) as journal:
        journal.put(entry(1)).result(60)
        assert journal.drain(60)
    assert told == [1, 0]


def test_what_waits_takes_no_memory_and_comes_in_order(store: Store, tmp_path: Path) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    kept = turns(store)

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        begun.set()
        assert goes_on.wait(60)
        return kept.apply(entries)

    with Journal(tmp_path, apply) as journal:
        journal.put(entry(0)).result(60)
        assert begun.wait(60)
        tracemalloc.start()
        for number in range(1, 2001):
            long = turn(Scope("ann"), f"t{number}", NOW + timedelta(seconds=number), "q" * 1000,
                        f"\u2028 {number}", fingerprint="f", before=None, model="m", cut=False)  # fmt: skip
            journal.put(long).result(60)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert journal.waiting == 2001
        assert held < 600_000  # the turns are 2 MB
        goes_on.set()
        assert journal.drain(60)
    found = store.get_all(ANN)
    assert [one.id for one in found] == [f"t{number}" for number in range(2001)]
    assert found[7].response == "\u2028 7"


def killed(folder: Path) -> None:
    """Leave the journal of a process that was killed with twenty turns and half a line."""
    done = subprocess.run([sys.executable, "-c", DIES, str(folder)], check=False)
    assert done.returncode == -9


def test_what_a_killed_process_left_is_taken_over_once(store: Store, tmp_path: Path) -> None:
    killed(tmp_path)
    goes_on, kept = threading.Event(), turns(store)

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        assert goes_on.wait(60)
        return kept.apply(entries)

    with Journal(tmp_path, apply) as journal, Journal(tmp_path, list) as other:
        assert (journal.waiting, other.waiting) == (21, 0)
        goes_on.set()
        until(lambda: not journal.waiting)
        assert len(list(tmp_path.glob(f"*{LOCK}"))) == 2
    assert store.count(ANN) == 20
    assert list(tmp_path.iterdir()) == []


def test_nobody_waits_for_what_the_dead_left(store: Store, tmp_path: Path) -> None:
    killed(tmp_path)
    dead, goes_on, kept = threading.Event(), threading.Event(), turns(store)

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        if len(entries) > 1:
            dead.set()
            assert goes_on.wait(60)
        return kept.apply(entries)

    with Journal(tmp_path, apply) as journal:
        assert dead.wait(60)
        journal.put(entry(30, "bob")).result(60)
        assert not journal.drain(0.05)
        goes_on.set()
        assert journal.drain(60)
    assert (store.count(Scope("bob")), store.count(ANN)) == (1, 20)


def test_what_the_dead_left_is_tried_again_later(store: Store, tmp_path: Path) -> None:
    killed(tmp_path)
    works, tried, kept = threading.Event(), threading.Event(), turns(store)

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        tried.set()
        if not works.is_set():
            raise StoreError("the server is away")
        return kept.apply(entries)

    with Journal(tmp_path, apply, look_s=0.05) as journal:
        assert tried.wait(60)
        works.set()
        until(lambda: store.count(ANN) == 20)
        until(lambda: not journal.waiting)


def test_a_journal_that_cannot_be_read_is_told_and_stops_nobody(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"not-a-file{LOCK}").mkdir()
    with Journal(tmp_path, turns(store).apply) as journal:
        journal.put(entry(1)).result(60)
        assert journal.drain(60)
    assert "turns of others cannot be read" in caplog.text
    assert store.count(ANN) == 1


def test_files_that_cannot_be_deleted_are_told_and_stop_nobody(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed(tmp_path)
    real = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == LOCK:
            raise PermissionError(13, "Permission denied", str(path))
        real(path, missing_ok)

    with Journal(tmp_path, turns(store).apply) as journal:
        monkeypatch.setattr(Path, "unlink", refuse)
        until(lambda: store.count(ANN) == 20)
        journal.put(entry(30, "bob")).result(60)
        assert journal.drain(60)
    monkeypatch.undo()
    assert "stored turns cannot be deleted" in caplog.text
    assert store.count(Scope("bob")) == 1
    with Journal(tmp_path, turns(store).apply) as journal:
        until(lambda: not journal.waiting)
    assert list(tmp_path.iterdir()) == []


def test_under_load_that_never_eases_the_disk_holds_what_waits_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_agent.serve.segments.MOST_BYTES", 10_000)
    kept, seen = turns(store), []
    sent = iter(range(10_000))

    def apply(entries: Sequence[Entry]) -> Sequence[Entry]:
        if len(seen) < 6:
            for _ in range(len(entries) + 20):  # more comes than goes
                journal.put(entry(next(sent))).result(60)
        seen.append((journal.waiting, sum(one.stat().st_size for one in tmp_path.glob("*.turns"))))
        return kept.apply(entries)

    with Journal(tmp_path, apply) as journal:
        for _ in range(100):
            journal.put(entry(next(sent))).result(60)
        assert journal.drain(60)
        until(lambda: not journal.waiting)
    line = len(json.dumps(entry(1000))) + 10
    assert max(waiting for waiting, _ in seen) > 150
    assert all(size < (waiting + 1) * line + 10_000 for waiting, size in seen)
    assert len(seen) > 6


def test_a_turn_of_somebody_forgotten_since_is_not_stored(store: Store) -> None:
    apply = turns(store).apply
    apply([entry(1)])
    forget(store, ANN, NOW + timedelta(seconds=5))
    assert apply([entry(2), entry(9), entry(3, "bob")]) == []
    assert [one.id for one in store.get_all(ANN)] == ["t9"]
    assert store.count(Scope("bob")) == 1


def test_turns_are_stored_though_the_index_cannot_follow(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(scopes: Sequence[Scope]) -> None:
        raise StoreError("no connection is free")

    kept = turns(store)
    monkeypatch.setattr(kept._memory, "keep_up", full)
    assert kept.apply([entry(1)]) == []
    assert [one.id for one in store.get_all(ANN)] == ["t1"]
    assert "the index cannot follow" in caplog.text


def test_the_question_after_a_stored_turn_needs_no_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = EpisodicMemory(store, HashEmbedder())
    kept = Turns(memory, clock=lambda: NOW + timedelta(hours=1), implicit=True)
    kept.apply([entry(1)])
    asked = [RecallRequest(ANN, "similar", "question 2", k=4)]
    memory.recall(asked)
    kept.apply([entry(2)])
    monkeypatch.setattr(store.database, "read", no_transaction)
    (found,) = memory.recall(asked)
    assert [one.interaction.id for one in found.memories] == ["t2", "t1"]


def test_a_turn_that_no_store_can_hold_goes_aside_and_stops_nobody(
    store: Store, tmp_path: Path
) -> None:
    poison = {**entry(2), "user": ""}
    with Journal(tmp_path, turns(store).apply) as journal:
        for one in (entry(1), poison, entry(3)):
            journal.put(one).result(60)
        assert journal.drain(60)
    assert store.count(ANN) == 2
    assert json.loads((tmp_path / REJECTED).read_text()) == poison


def test_a_full_disk_is_told_and_leaves_no_half_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real = os.write

    def full(file: int, data: bytes) -> int:
        real(file, data[:10])
        raise OSError(28, "No space left on device")

    with Journal(tmp_path, turns(store).apply) as journal:
        monkeypatch.setattr("persona_agent.serve.segments.os.write", full)
        with pytest.raises(OSError, match="No space"):
            journal.put(entry(1)).result(60)
        monkeypatch.undo()
        journal.put(entry(2)).result(60)
        assert journal.drain(60)
    assert [one.id for one in store.get_all(ANN)] == ["t2"]


def test_a_broken_embedder_costs_no_turn(store: Store) -> None:
    class Broken(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> Any:
            raise BackendError("the model file is gone")

    assert turns(store, Broken()).apply([entry(1), entry(2, before=("f1", "answer 1"))]) == []
    assert store.get(ANN, "t1").outcome == "accepted"
    assert store.count(ANN) == 2


def test_going_on_and_asking_again_are_outcomes_of_the_turn_before(store: Store) -> None:
    apply = turns(store).apply
    apply([entry(1)])
    apply([entry(2, before=("f1", "answer 1"))])
    assert store.get(ANN, "t1").outcome == "accepted"
    apply([entry(3, fingerprint="f2", before=("f1", "answer 1"))])
    again = store.get(ANN, "t2")
    assert (again.outcome, again.metadata["implicit"]) == ("rejected", "asked again")
    apply([entry(4, before=("f3", "another answer"))])
    assert store.get(ANN, "t3").outcome is None


def test_a_turn_and_the_one_after_it_may_come_in_one_batch(store: Store) -> None:
    turns(store).apply([entry(1), entry(2, before=("f1", "answer 1"))])
    assert [one.outcome for one in store.get_all(ANN)] == ["accepted", None]


def test_an_answer_after_a_tools_result_is_added_to_its_turn_once(store: Store) -> None:
    apply = turns(store).apply
    more = entry(2, fingerprint="f1", goes_on=True)
    last = entry(3, fingerprint="f1", goes_on=True)
    for _ in range(2):  # a journal that is taken over may be applied twice
        assert apply([entry(1), more, last]) == []
    (one,) = store.get_all(ANN)
    assert one.response == "answer 1\nanswer 2\nanswer 3"
    assert one.outcome is None
    apply([entry(4, before=("f1", one.response))])
    assert store.get(ANN, "t1").outcome == "accepted"


def test_an_answer_whose_turn_is_not_there_is_a_turn(store: Store) -> None:
    turns(store).apply([entry(2, fingerprint="f1", goes_on=True)])
    assert [(one.query, one.response) for one in store.get_all(ANN)] == [("question 2", "answer 2")]


def test_what_the_user_says_goes_before_what_was_implied(store: Store) -> None:
    both = turns(store)
    both.apply([entry(1)])
    both.apply([entry(2, before=("f1", "answer 1"))])
    both.feedback(ANN, "t1", "wrong", {"comment": "it was blue"})
    told = store.get(ANN, "t1")
    assert told.outcome == "wrong"
    assert "implicit" not in told.metadata
    assert told.metadata["comment"] == "it was blue"
    both.apply([entry(3, fingerprint="f1")])
    assert store.get(ANN, "t1").outcome == "wrong"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(tmp_path.with_name(tmp_path.name + "-db")) as opened:
        yield opened

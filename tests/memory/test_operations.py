"""Operations: asked once, done once, found only by their owner, taken over from the dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from persona_agent.errors import UnknownUser
from persona_agent.memory.forget import forget
from persona_agent.memory.operations import LEASE, MAX_ATTEMPTS, Operations, UnknownOperation
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ANN = Scope("ann")
LATER = NOW + LEASE + timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _known(store: Store) -> None:
    store.add([Interaction(ANN, NOW, "hello there")], now=NOW)


def test_an_operation_goes_from_queued_to_done_and_keeps_its_result(store: Store) -> None:
    worker = Operations(store)
    asked = worker.ask(ANN, "align", NOW, options={"rounds": 2})
    assert (asked.state, asked.options, asked.ended) == ("queued", {"rounds": 2}, False)
    taken = worker.claim(["align"], NOW)
    assert taken is not None
    assert (taken.id, taken.state, taken.attempts) == (asked.id, "running", 1)
    assert worker.claim(["align"], NOW) is None
    assert worker.tell(taken, {"round": 1}, NOW)
    assert worker.get(ANN, asked.id).progress == {"round": 1}
    assert worker.finish(taken, {"accepted": True}, NOW)
    done = worker.get(ANN, asked.id)
    assert (done.state, done.result, done.ended) == ("done", {"accepted": True}, True)
    assert not worker.fail(taken, "too late", NOW)


def test_asking_again_gives_what_is_under_way_or_has_the_same_id(store: Store) -> None:
    worker = Operations(store)
    first = worker.ask(ANN, "align", NOW, operation_id="key")
    assert worker.ask(ANN, "align", NOW).id == "key"
    taken = worker.claim(["align"], NOW)
    assert taken is not None
    worker.finish(taken, None, NOW)
    assert worker.ask(ANN, "align", NOW, operation_id="key").state == "done"
    assert worker.ask(ANN, "align", NOW).id != first.id


def test_nobody_else_finds_it(store: Store) -> None:
    worker = Operations(store)
    asked = worker.ask(ANN, "align", NOW)
    assert worker.find("default", asked.id) == asked
    for wrong in (Scope("bob"), Scope("ann", "acme")):
        with pytest.raises(UnknownOperation):
            worker.get(wrong, asked.id)
    with pytest.raises(UnknownOperation):
        worker.find("acme", asked.id)
    with pytest.raises(UnknownUser):
        worker.ask(Scope("bob"), "align", NOW)
    assert worker.list("acme") == []
    assert worker.list("default", ANN) == [asked]


def test_what_a_dead_worker_held_is_taken_over_but_not_for_ever(store: Store) -> None:
    dead, alive = Operations(store), Operations(store)
    asked = dead.ask(ANN, "align", NOW)
    first = dead.claim(["align"], NOW)
    assert first is not None
    assert alive.claim(["align"], NOW) is None
    second = alive.claim(["align"], LATER)
    assert second is not None
    assert second.attempts == 2
    assert not dead.finish(first, {}, LATER)
    now = LATER
    for _ in range(MAX_ATTEMPTS - 2):
        now += 2 * LEASE
        assert alive.claim(["align"], now) is not None
    assert alive.claim(["align"], now + 2 * LEASE) is None
    assert alive.get(ANN, asked.id).state == "failed"


def test_it_goes_with_its_user_and_its_worker_writes_nothing_more(store: Store) -> None:
    worker = Operations(store)
    asked = worker.ask(ANN, "align", NOW)
    taken = worker.claim(["align"], NOW)
    assert taken is not None
    assert forget(store, ANN, NOW).rows["operations"] == 1
    assert not worker.finish(taken, {}, NOW)
    with pytest.raises(UnknownOperation):
        worker.get(ANN, asked.id)

"""The queue: every user is handed out until done or given up, whatever is lost on the way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.cluster.batches import Batch, Batches

USERS = [f"u{i}" for i in range(10)]


def test_batches_are_handed_out_in_order_and_hold_everybody() -> None:
    batches = Batches(USERS, size=4, attempts=3)
    taken = [batches.take() for _ in range(4)]
    assert taken == [
        Batch(tuple(USERS[:4])),
        Batch(tuple(USERS[4:8])),
        Batch(tuple(USERS[8:])),
        None,
    ]
    assert not batches.has_ended
    for one in taken[:3]:
        assert one is not None
        batches.done(one)
    assert batches.has_ended


def test_nobody_is_no_batch() -> None:
    assert Batches([], size=4, attempts=1).has_ended


def test_a_lost_batch_comes_first_and_its_last_attempt_is_user_by_user() -> None:
    batches = Batches(["a", "b", "c"], size=2, attempts=3)
    first = batches.take()
    assert first is not None
    assert batches.lost(first) == ()
    second = batches.take()
    assert second == Batch(("a", "b"), 2)
    assert batches.lost(second) == ()
    assert [batches.take() for _ in range(3)] == [
        Batch(("a",), 3),
        Batch(("b",), 3),
        Batch(("c",), 1),
    ]
    assert batches.lost(Batch(("a",), 3)) == ("a",)


def test_giving_up_returns_who_waits_and_leaves_nobody_waiting() -> None:
    batches = Batches(USERS, size=4, attempts=1)
    first = batches.take()
    assert first is not None
    assert batches.give_up() == tuple(USERS[4:])
    assert batches.take() is None
    assert batches.lost(first) == tuple(USERS[:4])
    assert batches.has_ended


@pytest.mark.parametrize(("size", "attempts", "says"), [(0, 1, "0 users"), (1, 0, "attempts is 0")])
def test_a_queue_that_cannot_work_is_refused(size: int, attempts: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Batches(USERS, size=size, attempts=attempts)


@given(
    users=st.integers(0, 30),
    size=st.integers(1, 7),
    attempts=st.integers(1, 4),
    loss=st.floats(0, 1),
    seed=st.integers(),
)
def test_every_user_ends_exactly_once(
    users: int, size: int, attempts: int, loss: float, seed: int
) -> None:
    rng = Random(seed)
    names = [f"u{i}" for i in range(users)]
    batches = Batches(names, size=size, attempts=attempts)
    out: list[Batch] = []
    ended: list[str] = []
    tries = dict.fromkeys(names, 0)
    while not batches.has_ended:
        batch = batches.take() if len(out) < 3 else None
        if batch is not None:
            out.append(batch)
            for user in batch.users:
                tries[user] += 1
            continue
        batch = out.pop(rng.randrange(len(out)))
        if rng.random() < loss:
            ended += batches.lost(batch)
        else:
            batches.done(batch)
            ended += batch.users
    assert sorted(ended) == sorted(names)
    assert all(1 <= count <= attempts for count in tries.values())

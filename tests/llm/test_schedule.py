from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.llm.schedule import Chain, Job, Slot, plan, shared

tokens = st.lists(st.integers(0, 2), max_size=12).map(tuple)
jobs = st.lists(st.builds(Job, tokens, st.integers(1, 300), st.sampled_from(["", "a"])))
slots = st.lists(
    st.builds(Slot, tokens, st.sampled_from(["", "a"]), st.integers(0, 9)), min_size=1, max_size=5
)


@given(jobs, slots)
def test_every_job_runs_exactly_once(row: list[Job], there: list[Slot]) -> None:
    chains = plan(row, there)
    assert sorted(i for chain in chains for i in chain.jobs) == list(range(len(row)))


@given(jobs, slots)
def test_a_slot_gets_at_most_one_chain(row: list[Job], there: list[Slot]) -> None:
    used = [chain.slot for chain in plan(row, there)]
    assert len(used) == len(set(used))
    assert all(0 <= slot < len(there) for slot in used)


@given(jobs, slots)
def test_the_plan_is_the_same_each_time(row: list[Job], there: list[Slot]) -> None:
    assert plan(row, there) == plan(row, there)


@given(tokens, tokens)
def test_shared_is_symmetric_and_bounded(one: tuple[int, ...], two: tuple[int, ...]) -> None:
    count = shared(one, two)
    assert count == shared(two, one)
    assert one[:count] == two[:count]
    assert count in (len(one), len(two)) or one[count] != two[count]


@given(st.integers(2, 12), st.integers(1, 4))
def test_short_jobs_with_a_long_prefix_stay_on_one_slot(count: int, slots: int) -> None:
    prefix = tuple(range(500))
    row = [Job((*prefix, i, i)) for i in range(count)]
    assert plan(row, [Slot()] * slots) == [Chain(0, tuple(range(count)))]


def test_long_answers_to_one_prefix_spread_over_all_slots() -> None:
    row = [Job((*range(100), i), decode=256) for i in range(8)]
    assert sorted(len(chain.jobs) for chain in plan(row, [Slot()] * 4)) == [2, 2, 2, 2]


def test_users_with_their_own_prefix_get_their_own_slot() -> None:
    row = [Job((*[user] * 300, i)) for i in range(4) for user in (7, 8)]
    chains = plan(row, [Slot()] * 2)
    assert sorted(chain.jobs for chain in chains) == [(0, 2, 4, 6), (1, 3, 5, 7)]


def test_a_chain_returns_to_the_slot_that_holds_its_prefix() -> None:
    there = [Slot((1,) * 50, used=1), Slot((2,) * 50, used=3), Slot((3,) * 50, used=2)]
    assert plan([Job((2,) * 60)], there)[0].slot == 1


def test_an_unknown_prefix_takes_the_slot_unused_for_longest() -> None:
    there = [Slot((1,), used=5), Slot((2,), used=3), Slot((3,), used=4)]
    assert plan([Job((9, 9))], there)[0].slot == 1


def test_a_slot_of_another_salt_holds_nothing() -> None:
    there = [Slot((1,) * 50, "theirs", used=2), Slot((2,), used=1)]
    assert plan([Job((1,) * 60, salt="ours")], there)[0].slot == 1


def test_nothing_to_do_is_no_chain() -> None:
    assert plan([], [Slot()]) == []


def test_no_slot_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        plan([Job((1,))], [])

"""The candidate bus: numbers stand, scopes are apart, memory is bounded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.bridge.bus import CandidateBus
from persona_agent.types import Scope

ALICE, BOB = Scope("alice"), Scope("bob")


def test_a_number_keeps_its_item_and_an_item_its_number() -> None:
    bus = CandidateBus()
    assert bus.put(ALICE, ["a", "b", "c"], 2) == [1, 2]
    assert bus.put(ALICE, ["c", "a", "d"], 3) == [3, 1, 4]
    assert [bus.item(ALICE, number) for number in (1, 2, 3, 4, 5)] == ["a", "b", "c", "d", None]
    assert bus.candidates(ALICE) == ("c", "a", "d")


def test_scopes_see_nothing_of_each_other() -> None:
    bus = CandidateBus()
    others = [BOB, Scope("alice", "tenant"), Scope("alice", run="r")]
    bus.put(ALICE, ["a"], 1)
    for scope in others:
        assert bus.candidates(scope) == ()
        assert bus.item(scope, 1) is None
        assert bus.put(scope, ["b"], 1) == [1]
    assert bus.item(ALICE, 1) == "a"


def test_forgetting_a_user_forgets_all_runs_and_nobody_else() -> None:
    bus = CandidateBus()
    for scope in (ALICE, Scope("alice", run="r"), BOB, Scope("alice", "tenant")):
        bus.put(scope, ["a"], 1)
    assert bus.forget(Scope("alice", agent="x")) == 2
    assert bus.forget(Scope("alice")) == 0
    assert len(bus) == 2
    assert bus.item(BOB, 1) == bus.item(Scope("alice", "tenant"), 1) == "a"


def test_memory_is_bounded_and_what_was_used_least_lately_goes() -> None:
    bus = CandidateBus(scopes=2, candidates=3, numbers=3)
    bus.put(ALICE, list("abcd"), 2)
    assert bus.candidates(ALICE) == ("a", "b", "c")
    bus.put(ALICE, list("xay"), 3)  # a is shown again: b is the oldest
    assert [bus.item(ALICE, number) for number in (1, 2, 3, 4)] == ["a", None, "x", "y"]
    bus.put(BOB, ["a"], 1)
    bus.put(ALICE, ["a"], 1)
    bus.put(Scope("eve"), ["a"], 1)
    assert len(bus) == 2
    assert bus.candidates(BOB) == ()
    with pytest.raises(ValueError, match="numbers is 0"):
        CandidateBus(numbers=0)


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcdefgh"), unique=True), st.integers(0, 4))))
def test_of_a_scope_every_number_means_one_item(calls: list[tuple[list[str], int]]) -> None:
    bus, meant = CandidateBus(numbers=5), dict[int, str]()
    for items, shown in calls:
        numbers = bus.put(ALICE, items, shown)
        assert len(numbers) == min(shown, len(items))
        for number, item in zip(numbers, items, strict=False):
            assert meant.setdefault(number, item) == item
            assert bus.item(ALICE, number) == item


def test_many_threads_get_numbers_that_are_true() -> None:
    bus = CandidateBus(scopes=50, numbers=400)

    def work(seed: int) -> bool:
        scope = Scope(f"u{seed % 5}")
        items = [f"i{(seed * 7 + step) % 97}" for step in range(20)]
        numbers = bus.put(scope, items, 20)
        return [bus.item(scope, number) for number in numbers] == items

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))

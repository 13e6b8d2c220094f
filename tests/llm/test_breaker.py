from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.llm.breaker import Breaker

# What may happen to a breaker: time passes, a request is admitted, one that is out comes back.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0.1, 20)),
        st.tuples(st.sampled_from(["ask", "answer", "fail", "fatal", "cancel"]), st.just(0.0)),
    ),
    max_size=60,
)


def test_it_opens_after_so_many_failures_in_a_row_and_says_why() -> None:
    state = Breaker(limit=3, pause_s=5)
    for reason in ("a", "b"):
        state = state.failed(10, reason)
        assert state.verdict(10) == "go"
    state = state.failed(10, "c")
    assert (state.verdict(10), state.verdict(14.9), state.reason) == ("refuse", "refuse", "c")
    assert state.opens_in(12) == 3


def test_an_answer_between_starts_the_count_again() -> None:
    state = Breaker(limit=2).failed(0, "a").succeeded().failed(0, "b")
    assert state.verdict(0) == "go"


def test_one_probe_tries_and_decides() -> None:
    state = Breaker(limit=1, pause_s=5).failed(0, "down")
    assert state.verdict(5) == "probe"
    probing = state.probed()
    assert probing.verdict(5) == "wait"
    assert probing.succeeded().verdict(5) == "go"
    again = probing.failed(6, "still down")
    assert (again.verdict(10), again.verdict(11)) == ("refuse", "probe")


def test_a_probe_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    state = Breaker(limit=1, pause_s=5).failed(0, "down").probed().abandoned()
    assert state.verdict(5) == "probe"


def test_a_fatal_failure_opens_it_at_once() -> None:
    assert Breaker(limit=9).failed(0, "wrong key", fatal=True).verdict(0) == "refuse"


def test_what_was_sent_before_it_opened_does_not_lengthen_the_pause() -> None:
    state = Breaker(limit=1, pause_s=5).failed(0, "down")
    assert state.failed(4, "late").verdict(5) == "probe"


@given(EVENTS, st.integers(1, 4))
def test_whatever_happens_it_neither_hammers_nor_stays_shut(
    events: list[tuple[str, float]], limit: int
) -> None:
    now, state, in_a_row, probes = 0.0, Breaker(limit, 5.0), 0, 0
    for event, seconds in events:
        now += seconds
        if event == "ask" and state.verdict(now) == "probe":
            state, probes = state.probed(), 1
        elif event == "answer":
            state, in_a_row, probes = state.succeeded(), 0, 0
        elif event in ("fail", "fatal"):
            state, in_a_row = state.failed(now, "x", fatal=event == "fatal"), in_a_row + 1
            probes = 0
        elif event == "cancel":
            state, probes = state.abandoned(), 0
        assert (state.verdict(now) == "wait") == (probes == 1)  # one probe at most
        if state.verdict(now) == "refuse":
            assert 0 < state.opens_in(now) <= 5.0 + 1e-6
            assert state.verdict(now + 5.0 + 1e-6) == "probe"  # it always heals
        if in_a_row >= limit:
            assert state.verdict(now) != "go"
        if in_a_row == 0:
            assert state.verdict(now) == "go"


@pytest.mark.parametrize("options", [{"limit": 0}, {"pause_s": -1}])
def test_a_wrong_option_is_named(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Breaker(**options)

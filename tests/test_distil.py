"""Traces: only thoughts that led to the truth, looked at the person, and kept to the point."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.distil import (
    Case,
    Distilled,
    TraceOptions,
    announces,
    cases_from,
    cited,
    distil,
    problem,
    repetition,
)
from persona_agent.drive import Ports, run
from persona_agent.llm import FakeLLM
from persona_agent.llm.fake import Answer
from persona_agent.persona import PersonaLine
from persona_agent.predict import Job
from persona_agent.task import Situation, Task
from persona_agent.think import Thought
from persona_agent.types import Interaction, ModelReply, Scope

ALICE = Scope("alice")
START = datetime(2026, 1, 1, tzinfo=UTC)
STARS = Task("rating", "Film", "Rating", ("1", "2", "3"), numeric=True)
WORDS = Task("words")
FILMS = ("Alien (1979), Horror", "Heat (1995), Crime", "Laura (1944), Film-Noir")
LINE = PersonaLine("often watches westerns at night")
GOOD = "They gave Alien, a horror film of 1979, their best rating [1]."


def job(options: tuple[str, ...] = STARS.options) -> Job:
    memories = tuple(
        Interaction(ALICE, START + timedelta(hours=i), film, "3", id=f"e{i}")
        for i, film in enumerate(FILMS)
    )
    return Job((LINE,), memories, Situation("Aliens (1986), Horror", options))


CASE = Case(job(), "3", "e9")


def teller(thoughts: Sequence[Answer], answers: Sequence[str]) -> FakeLLM:
    """Return a model that gives these thoughts and answers, each in turn."""
    thinking, answering = iter(thoughts), iter(answers)
    return FakeLLM(lambda one: next(thinking) if one.purpose == "think" else next(answering))


def distilled(
    llm: FakeLLM, options: TraceOptions = TraceOptions(samples=1), cases: Sequence[Case] = (CASE,)
) -> Distilled:
    return run(distil(cases, STARS, options), Ports(llm))


def test_a_thought_that_leads_to_the_truth_is_an_example() -> None:
    llm = teller([GOOD], ["3"])
    found = distilled(llm)
    (trace,) = found.traces
    assert (trace.event, trace.thought, trace.rationalised) == ("e9", GOOD, False)
    assert trace.cites == ("e0",)
    assert trace.completion == f"<think>\n{GOOD}\n</think>\nRating: 3"
    assert trace.messages == llm.requests[0].messages[:-1]
    assert found.dropped == {}


def test_the_outcome_is_in_no_request() -> None:
    secret = Case(job(("s1", "s2", "canary")), "canary", "e9")
    task = Task("choice", "Film", "Choice", ("s1", "s2", "canary"))
    llm = teller([GOOD], ["canary"])
    run(distil([secret], task, TraceOptions(samples=1)), Ports(llm))
    assert all("canary" not in message.content for one in llm.requests for message in one.messages)


def test_samples_differ_by_seed_and_the_likeliest_answers_are_kept() -> None:
    weights = iter(
        [[-5.0, -5.0, -0.5], [-5.0, -5.0, -0.01], [-0.1, -5.0, -5.0], [-9.0, -9.0, -0.3]]
    )
    thoughts = iter([GOOD, f"{GOOD} So.", f"{GOOD} Or.", GOOD])
    llm = FakeLLM(lambda one: next(thoughts) if one.purpose == "think" else next(weights))
    found = distilled(llm, TraceOptions(samples=4, keep=2))
    assert [one.sampling.seed for one in llm.calls[0]] == [0, 1, 2, 3]
    assert {one.sampling.temperature for one in llm.calls[0]} == {0.8}
    assert [one.thought for one in found.traces] == [f"{GOOD} So.", GOOD]
    assert found.dropped == {"wrong": 1}
    assert [one.loglik for one in found.traces] == sorted(
        (one.loglik or 0 for one in found.traces), reverse=True
    )


@pytest.mark.parametrize(
    ("thought", "why"),
    [
        (Thought("", True), "empty"),
        (Thought(GOOD, False), "too long"),
        (Thought(f"{'it is good ' * 9} [1]", True), "repetitive"),
        (Thought("Rating: 3, as [1] says", True), "answer before reasons"),
        (Thought("Most people like such films.", True), "no evidence"),
        (Thought(GOOD, True), None),
    ],
)
def test_what_is_no_example_is_dropped_with_its_reason(thought: Thought, why: str | None) -> None:
    assert problem(thought, CASE, STARS, TraceOptions()) == why


def test_dropped_thoughts_are_counted_and_not_answered() -> None:
    over = ModelReply(GOOD, finish="length")
    failed = ModelReply(error="BackendTimeout: 60 s", finish="error")
    llm = teller([GOOD, over, "Nice.", failed], ["1"])
    found = distilled(llm, TraceOptions(samples=4))
    assert found.traces == ()
    assert found.dropped == {"empty": 1, "no evidence": 1, "too long": 1, "wrong": 1}
    assert len(llm.calls[1]) == 1
    assert "0 traces of 1 cases, 4 thoughts" in str(found)


def test_a_hint_is_tried_once_for_what_none_solved_and_marked() -> None:
    llm = teller([GOOD, GOOD, f"{GOOD} So."], ["3", "1", "3"])
    cases = [CASE, Case(job(), "3", "e10")]
    found = distilled(llm, TraceOptions(samples=1, hint=True), cases)
    assert [(one.event, one.rationalised) for one in found.traces] == [("e9", False), ("e10", True)]
    (hinted,) = llm.calls[2]
    assert "What this person really did: 3." in hinted.messages[1].content
    assert "really did" not in found.traces[1].messages[1].content
    (checked,) = llm.calls[3]
    assert "really did" not in checked.messages[1].content


def test_a_hinted_thought_that_does_not_lead_there_unaided_is_dropped() -> None:
    found = distilled(teller([GOOD, GOOD], ["1", "2"]), TraceOptions(samples=1, hint=True))
    assert (found.traces, found.dropped, found.thoughts) == ((), {"wrong": 2}, 2)


def test_free_text_counts_as_right_by_its_words() -> None:
    case = Case(job(()), "a fine old film", "e9")
    thought = "They said so of Laura, the film-noir [3]."
    good = run(
        distil([case], WORDS, TraceOptions(samples=1)), Ports(teller([thought], ["fine old film"]))
    )
    assert good.traces[0].answer == "Answer: a fine old film"
    bad = run(distil([case], WORDS, TraceOptions(samples=1)), Ports(teller([thought], ["no idea"])))
    assert bad.dropped == {"wrong": 1}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("as in [2] and [3]", ("e1", "e2")),
        ("as in [9]", ()),
        ("Laura is film-noir", ("e2",)),
        ("a horror film", ()),  # that is in the query
        ("they watch westerns at night", (LINE.id,)),
        ("", ()),
    ],
)
def test_what_is_named_by_number_or_words_is_cited(text: str, ids: tuple[str, ...]) -> None:
    assert cited(text, job()) == ids


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("3", True),
        ("The rating is 3 because", True),
        ("My answer: 3.", True),
        ("They gave [1] a 3", False),
        ("30 films were rated", False),
    ],
)
def test_saying_the_answer_first_is_seen(text: str, is_so: bool) -> None:
    assert announces(text, "3", STARS) is is_so


@given(st.lists(st.sampled_from("abcde"), max_size=40))
def test_repetition_is_a_share_and_saying_it_twice_is_more_of_it(words: list[str]) -> None:
    text = " ".join(words)
    assert 0 <= repetition(text) < 1
    if len(words) > 2:
        assert repetition(f"{text} {text}") >= repetition(text)


def test_no_cases_ask_nothing() -> None:
    llm = teller([], [])
    assert distilled(llm, cases=()).cases == 0
    assert llm.requests == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"temperature": 0.0}, "above 0"),
        ({"repeated": 2}, "0 to 1"),
    ],
)
def test_options_say_what_is_wrong(bad: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TraceOptions(**bad)  # type: ignore[arg-type]  # that is the test


@given(
    whens=st.lists(st.integers(0, 6), max_size=12).map(sorted),
    marked=st.sets(st.integers(0, 11)),
    cases=st.integers(1, 4),
    memories=st.integers(1, 4),
)
def test_a_case_knows_the_latest_of_what_was_earlier_and_nothing_else(
    whens: list[int], marked: set[int], cases: int, memories: int
) -> None:
    history = [
        Interaction(
            ALICE,
            START + timedelta(hours=when),
            f"film {i}",
            "3" if i in marked else None,
            id=str(i),
        )
        for i, when in enumerate(whens)
    ]
    made = cases_from(history, STARS, TraceOptions(cases=cases, memories=memories))
    possible = [one for one in history if one.outcome and one.when > history[0].when]
    assert [one.event for one in made] == [one.id for one in possible][-cases:]
    for one in made:
        asked = history[int(one.event)]
        earlier = tuple(known for known in history if known.when < asked.when)
        assert one.job.memories == earlier[-memories:]
        assert (one.outcome, one.job.situation.query) == ("3", asked.query)


def test_what_came_of_several_users_adds_up() -> None:
    trace = distilled(teller([GOOD], ["3"])).traces[0]
    one = Distilled((trace,), 2, 8, {"wrong": 3, "empty": 1})
    other = Distilled((), 1, 4, {"wrong": 2})
    whole = Distilled.of_all([one, other])
    assert whole == Distilled((trace,), 3, 12, {"empty": 1, "wrong": 5})
    assert str(whole) == "1 traces of 3 cases, 12 thoughts; dropped: 1 empty, 5 wrong"
    assert Distilled.of_all([]) == Distilled((), 0, 0, {})

"""Semantic memory as lines: the right ones, with evidence, and nothing later than the moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from persona_agent.memory.summaries import Level, Summary
from persona_agent.persona import PersonaLine
from persona_agent.semantic import fact_lines, merged, statistics_lines, summary_lines, upto
from persona_agent.task import Task
from persona_agent.types import Fact, Interaction, Scope

ALICE = Scope("alice")
START = datetime(2026, 1, 1, tzinfo=UTC)
STARS = Task("rating", "Film", "Rating", ("1", "2", "3"), numeric=True, item_name="film")
TAGS = Task("choice", "Film", "Tag", ("action", "classic"))


def at(number: int) -> datetime:
    return START + timedelta(days=number)


def event(number: int, outcome: str | None, genre: str = "Drama") -> Interaction:
    return Interaction(
        ALICE, at(number), f"film {number}", outcome, metadata={"genres": [genre]}, id=f"e{number}"
    )


def fact(name: str, text: str, since: int, until: int | None = None, sure: float = 1) -> Fact:
    ends = None if until is None else at(until)
    return Fact(name, "preference", text, (f"e{since}", "e90"), sure, at(since), ends)


def test_label_frequencies_come_first_and_groups_that_stand_apart_follow() -> None:
    history = [event(i, "3", "Western") for i in range(5)] + [event(i, "1") for i in range(5, 10)]
    lines = statistics_lines(history, STARS)
    assert [one.text for one in lines[:2]] == [
        "On average gives 2.0 to a film (10 in all).",
        "Gives 3 to 50%, 2 to 0%, 1 to 50%.",
    ]
    assert any("Western 1.0 above" in one.text for one in lines[2:])
    assert {one.origin for one in lines} == {"statistics"}
    assert lines[0].evidence == tuple(f"e{i}" for i in range(10))


def test_choices_are_told_by_their_share() -> None:
    lines = statistics_lines([event(i, "classic") for i in range(4)], TAGS)
    assert lines[0].text == "Most often chooses classic 100%."


@given(st.integers(0, 40), st.integers(0, 40))
def test_statistics_of_a_moment_do_not_change_with_what_comes_later(now: int, more: int) -> None:
    history = [event(i, str(1 + i % 3), ("Drama", "War")[i % 2]) for i in range(now + 1 + more)]
    assert statistics_lines(history, STARS, now=at(now)) == statistics_lines(
        history[: now + 1], STARS
    )


def test_what_has_no_outcome_counts_for_nothing_and_nothing_gives_nothing() -> None:
    assert statistics_lines([event(0, None)], STARS) == []
    assert statistics_lines([], STARS) == []
    assert len(statistics_lines([event(i, "3") for i in range(50)], STARS, most=1)) == 1


FACTS = [
    fact("a", "Loves tea", 0, 5),
    fact("b", "Prefers coffee to tea", 5),
    fact("c", "Has two cats", 1, sure=0.5),
    fact("d", "Reads old crime novels", 9),
]


def texts(lines: list[PersonaLine]) -> list[str]:
    return [one.text for one in lines]


def test_facts_are_those_that_held_then() -> None:
    assert texts(fact_lines(FACTS, now=at(4))) == ["Loves tea", "Has two cats"]
    assert texts(fact_lines(FACTS, now=at(5))) == ["Prefers coffee to tea", "Has two cats"]
    assert texts(fact_lines(FACTS)) == [
        "Reads old crime novels",
        "Prefers coffee to tea",
        "Has two cats",
    ]
    assert fact_lines([], "tea") == []


def test_facts_that_share_words_with_the_question_come_first() -> None:
    assert texts(fact_lines(FACTS, "What do my cats eat?", most=2)) == [
        "Has two cats",
        "Reads old crime novels",
    ]


def test_evidence_that_is_not_known_yet_is_not_named() -> None:
    (line,) = fact_lines(FACTS[:1], now=at(4), events={"e0"})
    assert (line.evidence, line.origin) == (("e0",), "fact")


def summary(
    name: str,
    level: Level,
    since: int,
    until: int | None = None,
    events: tuple[str, ...] = (),
    parts: tuple[str, ...] = (),
) -> Summary:
    ends = None if until is None else at(until)
    return Summary(name, level, (f"{name} is said", "again"), at(since), events, parts, ends)


SUMMARIES = [
    summary("g1", "group", 3, events=("e1", "e3")),
    summary("g2", "group", 5, events=("e4", "e5")),
    summary("u1", "user", 5, 9, parts=("g1", "g2")),
    summary("u2", "user", 9, events=("e9",), parts=("g1", "g2")),
]


def test_a_summary_is_that_of_its_time_with_all_it_rests_on() -> None:
    (line, again) = summary_lines(SUMMARIES, now=at(6))
    assert (line.text, again.text, line.origin) == ("u1 is said", "again", "summary")
    assert line.evidence == ("e1", "e3", "e4", "e5")
    assert texts(summary_lines(SUMMARIES, most=1)) == ["u2 is said"]
    assert summary_lines(SUMMARIES, now=at(2)) == []
    assert summary_lines([]) == []


def test_before_the_person_was_summed_up_the_groups_of_then_are_told() -> None:
    assert texts(summary_lines(SUMMARIES, now=at(4))) == ["g1 is said", "again"]
    assert texts(summary_lines(SUMMARIES[:2], now=at(5))) == ["g1 is said", "again", "g2 is said"]


def test_merging_keeps_order_and_each_statement_once() -> None:
    a, b = PersonaLine("one"), PersonaLine("two")
    again = PersonaLine("one", ("e1",), "fact")
    assert merged([a, b], [again, PersonaLine("three")]) == (a, b, PersonaLine("three"))
    assert merged() == ()


def test_the_moment_itself_is_known() -> None:
    history = [event(0, "1"), event(1, "2")]
    assert upto(history, at(0)) == history[:1]
    assert upto(history, None) == history

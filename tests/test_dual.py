"""Dual memory: each part of a plan is there when it is on, and is not when it is off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from persona_agent.drive import Ports, run
from persona_agent.dual import MemoryPlan, foresee, lines_of
from persona_agent.llm import FakeLLM
from persona_agent.memory.summaries import Summary
from persona_agent.persona import PersonaLine
from persona_agent.predict import Job, predict
from persona_agent.task import Situation, Task
from persona_agent.think import ThinkOptions
from persona_agent.types import Fact, Interaction, Scope

ALICE = Scope("alice")
START = datetime(2026, 1, 1, tzinfo=UTC)
STARS = Task("rating", "Film", "Rating", ("1", "2", "3"), numeric=True, item_name="film")


def at(number: int) -> datetime:
    return START + timedelta(days=number)


HISTORY = [Interaction(ALICE, at(i), f"film {i}", str(1 + i % 3), id=f"e{i}") for i in range(12)]
FACTS = [
    Fact("a", "habit", "Watches at night", ("e1",), 0.9, at(1)),
    Fact("b", "preference", "Likes films of the sea", ("e11",), 0.9, at(11)),
]
SUMMARY = Summary("u", "user", ("Watches a lot.",), at(5), ("e5",))
PERSONA = (PersonaLine("likes long films"),)


def texts(plan: MemoryPlan, now: datetime | None = None, query: str = "") -> list[str]:
    lines = lines_of(
        plan,
        query,
        persona=PERSONA,
        history=HISTORY,
        task=STARS,
        facts=FACTS,
        summaries=[SUMMARY],
        now=now,
    )
    return [line.text for line in lines]


def test_a_plan_of_all_parts_has_the_persona_first_and_what_changes_with_the_query_last() -> None:
    plan = MemoryPlan(statistics=1, facts=1, summary=True)
    assert texts(plan, query="a film of the sea") == [
        "likes long films",
        "On average gives 2.0 to a film (12 in all).",
        "Watches a lot.",
        "Likes films of the sea",
    ]


@pytest.mark.parametrize(
    ("plan", "first"),
    [
        (MemoryPlan(persona=False), []),
        (MemoryPlan(), ["likes long films"]),
        (MemoryPlan(persona=False, statistics=1), ["On average gives 2.0 to a film (12 in all)."]),
        (MemoryPlan(persona=False, summary=True), ["Watches a lot."]),
        (MemoryPlan(persona=False, facts=9), ["Likes films of the sea", "Watches at night"]),
    ],
)
def test_each_part_is_there_alone_when_it_is_on_alone(plan: MemoryPlan, first: list[str]) -> None:
    assert texts(plan) == first


def test_nothing_is_told_that_is_later_than_the_moment() -> None:
    plan = MemoryPlan(persona=False, statistics=1, facts=9, summary=True)
    assert texts(plan, now=at(2)) == [
        "On average gives 2.0 to a film (3 in all).",
        "Watches at night",
    ]
    assert texts(plan, now=at(-1)) == []


JOB = Job(PERSONA, (), Situation("film 9", STARS.options))


def test_a_plan_with_nothing_is_the_plain_prediction_to_the_letter() -> None:
    one, other = (FakeLLM(lambda request: [-1.0, -2.0, -3.0]) for _ in range(2))
    assert run(foresee([JOB], STARS), Ports(one)) == run(predict([JOB], STARS), Ports(other))
    assert one.calls == other.calls


def test_the_adapter_is_on_every_request_of_a_thought_and_its_answer() -> None:
    llm = FakeLLM(lambda request: "So." if request.purpose == "think" else "3")
    plan = MemoryPlan(adapter="alice", think=ThinkOptions())
    (prediction,) = run(foresee([JOB], STARS, plan), Ports(llm))
    assert prediction.text == "3"
    assert [(one.purpose, one.adapter) for one in llm.requests] == [
        ("think", "alice"),
        ("predict", "alice"),
    ]


def test_what_cannot_be_is_refused() -> None:
    program = foresee([JOB], STARS, MemoryPlan(think=ThinkOptions()), calibration="domain")
    with pytest.raises(ValueError, match="not calibrated"):
        run(program, Ports(FakeLLM(lambda one: "x")))
    with pytest.raises(ValueError, match="facts is -1"):
        MemoryPlan(facts=-1)

"""An agent with semantic memory: summaries, thoughts and plans, through its public methods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from persona_agent import PersonaAgent
from persona_agent.cli import main
from persona_agent.dual import MemoryPlan
from persona_agent.errors import BackendError, UnknownUser
from persona_agent.llm import FakeLLM
from persona_agent.llm.fake import Answer
from persona_agent.memory.summary_rows import SUMMARY_JOB
from persona_agent.predict import RecallPlan
from persona_agent.task import Task
from persona_agent.think import ThinkOptions
from persona_agent.types import Interaction, ModelReply, ModelRequest, Scope

START = datetime(2026, 1, 1, tzinfo=UTC)
STARS = Task("rating", "Film", "Rating", ("1", "2", "3"), numeric=True, item_name="film")
ALICE = Scope("alice")
SUMMED = "Watches a film each day."


def event(number: int) -> Interaction:
    when = START + timedelta(days=number)
    return Interaction(ALICE, when, f"film {number}", str(1 + number % 3), id=f"e{number}")


def answer(request: ModelRequest) -> Answer:
    if request.purpose == "summaries":
        return json.dumps({"lines": [SUMMED]})
    if request.purpose == "facts":
        return '{"facts": []}'
    if request.schema is not None:
        return json.dumps({"lines": ["Likes long films"]})
    if request.purpose == "think":
        return "They watch a lot [1]."
    return request.choices[-1] if request.choices else "Alien."


@pytest.fixture
def llm() -> FakeLLM:
    """Give a model that sums up, thinks and answers."""
    return FakeLLM(answer)


@pytest.fixture
def agent(llm: FakeLLM) -> Iterator[PersonaAgent]:
    """Give an agent that keeps summaries and has 40 memories of Alice."""
    with PersonaAgent.open(":memory:", llm=llm, embedder="hash", summaries=True) as opened:
        opened.add([event(i) for i in range(40)])
        yield opened


def last(llm: FakeLLM) -> str:
    return "\n".join(message.content for message in llm.requests[-1].messages)


def test_summaries_are_made_by_jobs_and_shown_with_their_evidence(
    agent: PersonaAgent, llm: FakeLLM
) -> None:
    assert agent.summary("alice").lines == ()
    assert str(agent.summary("alice")) == "nothing is summed up yet"
    assert [(one.job.kind, one.end) for one in agent.run_jobs()] == [(SUMMARY_JOB, "done")]
    (line,) = agent.summary("alice").lines
    assert (line.text, line.origin, line.evidence[-1]) == (SUMMED, "summary", "e39")
    assert len(line.evidence) == 24
    assert SUMMED in str(agent.summary("alice"))
    assert agent.summary("alice", as_of=START - timedelta(1)).lines == ()
    count = len(llm.requests)
    assert agent.summarise("alice").lines == (line,)
    assert len(llm.requests) == count  # nothing is new


def test_a_question_and_a_context_hold_the_summary_unless_it_is_off(
    agent: PersonaAgent, llm: FakeLLM
) -> None:
    agent.summarise("alice")
    found = agent.ask("What should I watch?", user_id="alice")
    assert f"<memories>\n- {SUMMED}\n- 20" in last(llm)
    assert [line.text for line in found.known] == [SUMMED]
    assert SUMMED in agent.context("alice", "film")
    known = agent.know("alice", "film", max_tokens=1000)
    assert [line.text for line in known.lines] == [SUMMED]
    plan = MemoryPlan(RecallPlan(0), persona=False, statistics=1)
    bare = agent.context("alice", "film", plan=plan)
    assert bare.splitlines()[1] == "- On average gives 2.0 to a item (40 in all)."
    assert len(bare.splitlines()) == 3
    agent.ask("What should I watch?", user_id="alice", plan=MemoryPlan())
    assert SUMMED not in last(llm)


def test_a_plan_switches_memories_on_and_off_in_a_question(
    agent: PersonaAgent, llm: FakeLLM
) -> None:
    plan = MemoryPlan(recall=RecallPlan(0), persona=False, statistics=1, adapter="alice")
    found = agent.ask("What now?", user_id="alice", plan=plan)
    text = last(llm)
    assert "On average gives 2.0" in text
    assert "About this person" not in text
    assert "film 3" not in text
    assert (found.memories, llm.requests[-1].adapter) == ((), "alice")
    agent.ask("What now?", user_id="alice", plan=MemoryPlan(statistics=1))
    assert "About this person" in last(llm)


def test_a_question_is_thought_about_and_the_thought_is_not_in_the_answer(
    agent: PersonaAgent, llm: FakeLLM
) -> None:
    plan = MemoryPlan(think=ThinkOptions())
    found = agent.ask("What now?", user_id="alice", plan=plan)
    assert (found.text, found.thought) == ("Alien.", "They watch a lot [1].")
    assert llm.requests[-1].messages[-1].content == "<think>\nThey watch a lot [1].\n</think>\n"


def test_a_prediction_holds_what_its_plan_says(agent: PersonaAgent, llm: FakeLLM) -> None:
    agent.summarise("alice")
    agent.predict(["film 50"], user_id="alice", task=STARS)
    assert SUMMED not in last(llm)
    plan = MemoryPlan(recall=RecallPlan(recent=2), summary=True, facts=2, adapter="alice")
    (found,) = agent.predict(["film 50"], user_id="alice", task=STARS, plan=plan)
    assert f"- {SUMMED}" in last(llm)
    assert last(llm).count("Film: film") == 3
    assert llm.requests[-1].adapter == "alice"
    assert found.text == "3"
    agent.predict(["x"], user_id="alice", task=STARS, plan=MemoryPlan(think=ThinkOptions()))
    assert [one.purpose for one in llm.requests[-2:]] == ["think", "predict"]


def test_what_is_forgotten_is_summed_up_no_more(agent: PersonaAgent) -> None:
    agent.summarise("alice")
    agent.delete("e0", user_id="alice")
    assert all("e0" not in line.evidence for line in agent.summary("alice").lines)
    assert SUMMED not in agent.context("alice", "film")  # until it is made anew
    agent.summarise("alice")
    assert agent.forget("alice").rows["summaries"] > 1
    assert agent.summary("alice").lines == ()


def test_nobody_and_nothing_is_told_as_such(agent: PersonaAgent) -> None:
    with pytest.raises(UnknownUser, match="bob"):
        agent.summarise("bob")
    assert agent.summary("bob").lines == ()
    failed = ModelReply(error="BackendTimeout: 60 s", finish="error")
    with PersonaAgent.open(":memory:", llm=FakeLLM(lambda one: failed), embedder="hash") as other:
        other.add([event(0)])
        with pytest.raises(BackendError, match="60 s"):
            other.summarise("alice")
    with (
        PersonaAgent.open(":memory:", llm=None, embedder="hash") as other,
        pytest.raises(ValueError, match="none was given"),
    ):
        other.summarise("alice")


def test_the_command_shows_the_summary_now_and_then(
    tmp_path: Path, llm: FakeLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "persona.db"
    with PersonaAgent.open(path, llm=llm, embedder="hash") as agent:
        agent.add([event(i) for i in range(3)])
        agent.summarise("alice")

    def call(*more: str) -> None:
        main(["--db", str(path), "--embedder", "hash", "summary", "alice", *more])

    call()
    assert f"{SUMMED}  [summary, 3 interactions]" in capsys.readouterr().out
    call("--as-of", "2025-12-31")
    assert capsys.readouterr().out == "nothing is summed up yet\n"
    with pytest.raises(SystemExit):
        call("--as-of", "soon")
    assert "'soon' is not a time" in capsys.readouterr().err


@pytest.mark.real("model")
def test_the_embedded_model_sums_a_user_up_and_thinks_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "persona.db"
    with PersonaAgent.open(path, llm=None, embedder="hash") as agent:
        said = ["I bake bread every Sunday", "I walk my dog before work", "I like strong tea"]
        agent.add(said, user_id="alice")
    begin = ["--db", str(path), "--embedder", "hash", "--json"]
    main([*begin, "summary", "alice", "--refresh"])
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert {line["origin"] for line in lines} <= {"summary"}
    assert all(len(line["evidence"]) == 3 for line in lines)
    thinking = ["--think", "personal", "--budget", "8", "--max-tokens", "8"]
    main([*begin, "ask", "alice", "Tea?", *thinking])
    answer = json.loads(capsys.readouterr().out)
    assert [line["text"] for line in answer["known"]] == [line["text"] for line in lines]
    assert answer["usage"]["requests"] == 2
    assert "think>" not in answer["text"]

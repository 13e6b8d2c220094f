"""Thinking: within its budget, given to the answer, and never left in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from persona_agent.drive import Ports, run
from persona_agent.errors import BackendError
from persona_agent.llm import FakeLLM
from persona_agent.llm.fake import Answer
from persona_agent.llm.local import LocalLLM
from persona_agent.persona import PersonaLine
from persona_agent.predict import Job, predict
from persona_agent.program import adapted
from persona_agent.task import Situation, Task
from persona_agent.think import Considered, Said, ThinkOptions, deliberate, think, without_thought
from persona_agent.types import Interaction, Message, ModelReply, ModelRequest, Sampling, Scope

ALICE = Scope("alice")
START = datetime(2026, 1, 1, tzinfo=UTC)
STARS = Task("rating", "Film", "Rating", ("1", "2", "3"), numeric=True)
WORDS = Task("words")
LINES = (PersonaLine("likes long films"),)


def event(number: int, outcome: str | None) -> Interaction:
    when = START + timedelta(hours=number)
    return Interaction(ALICE, when, f"film {number}", outcome, id=f"e{number}")


def job(task: Task = STARS) -> Job:
    memories = (event(1, "3"), event(2, None), event(3, "1"))
    return Job(LINES, memories, Situation("film 9", task.options))


def model(thought: Answer, after: str = "3", direct: str = "1") -> FakeLLM:
    """Return a model that thinks `thought`, answers `after` it, and `direct` without."""

    def answer(request: ModelRequest) -> Answer:
        if request.purpose == "think":
            return thought
        told = "<think>" in request.messages[-1].content
        return after if told else direct

    return FakeLLM(answer)


def considered(
    llm: FakeLLM, options: ThinkOptions = ThinkOptions(), task: Task = STARS
) -> Considered:
    return run(think([job(task)], task, options), Ports(llm))[0]


OVERRUN = ModelReply("They like long films because", finish="length")


def test_the_answer_is_weighed_after_the_thought() -> None:
    llm = model("They like long films [1].")
    found = considered(llm)
    assert (found.follows, found.thought.text) == (True, "They like long films [1].")
    assert found.prediction.text == "3"
    thought, after = llm.requests
    assert thought.messages[-1] == Message("assistant", "<think>\n")
    assert (thought.sampling.stop, thought.sampling.max_tokens) == (("</think>",), 256)
    assert thought.choices == ()
    assert after.choices == ("1", "2", "3")
    begun = "<think>\nThey like long films [1].\n</think>\nRating: "
    assert after.messages == (*thought.messages[:-1], Message("assistant", begun))


def test_the_likelihoods_are_those_given_the_thought() -> None:
    llm = FakeLLM(lambda one: "So." if one.purpose == "think" else [-9.0, -9.0, -0.1])
    found = considered(llm)
    assert found.prediction.loglik("3") == pytest.approx(0.0, abs=1e-3)
    assert found.prediction.expected == pytest.approx(3.0, abs=1e-3)


def test_the_prompt_numbers_the_cases_and_holds_no_outcome_of_the_query() -> None:
    llm = model("So.")
    considered(llm)
    system, user, _ = llm.requests[0].messages
    assert "in at most 153 words" in system.content
    assert user.content == (
        "<known>\n- likes long films\n[1] Film: film 1 — Rating: 3\n[2] Film: film 3 — Rating: 1\n"
        "</known>\n\nFilm: film 9\nPredict the rating this person gives, from 1 to 3."
    )


def test_a_thought_that_runs_over_leaves_the_direct_answer_to_the_letter() -> None:
    llm = model(OVERRUN)
    found = considered(llm)
    assert (found.follows, found.prediction.text, found.thought.whole) == (False, "1", False)
    plain = model("")
    run(predict([job()], STARS), Ports(plain))
    assert llm.requests[1] == plain.requests[0]


def test_a_thought_that_runs_over_can_be_cut_and_followed() -> None:
    found = considered(model(OVERRUN), ThinkOptions(overrun="cut"))
    assert (found.follows, found.prediction.text) == (True, "3")


@pytest.mark.parametrize(
    "thought", ["", " ", "</think>", ModelReply(error="BackendTimeout: 60 s", finish="error")]
)
@pytest.mark.parametrize("overrun", ["direct", "cut"])
def test_no_thought_at_all_is_followed_by_nothing(thought: Answer, overrun: str) -> None:
    options = replace(ThinkOptions(), overrun=overrun)
    found = considered(model(thought), options)
    assert (found.follows, found.prediction.text) == (False, "1")


def test_an_engine_that_opens_and_closes_the_block_itself_is_understood() -> None:
    found = considered(model("<think>\nThey like it.\n</think>\nRating: 2"))
    assert found.thought.text == "They like it."
    assert found.follows


def test_all_thoughts_are_one_batch_and_all_answers_another() -> None:
    def some(request: ModelRequest) -> Answer:
        if request.purpose == "think":
            return OVERRUN if "film 9" in request.messages[1].content else "So."
        return "2"

    llm = FakeLLM(some)
    jobs = [job(), replace(job(), situation=Situation("film 8", STARS.options))]
    found = run(think(jobs, STARS), Ports(llm))
    assert [one.follows for one in found] == [False, True]
    assert [len(batch) for batch in llm.calls] == [2, 2]


def test_free_text_is_said_without_the_thought() -> None:
    llm = model("They write short.", after="<think>again</think> Good film", direct="x")
    found = considered(llm, task=WORDS)
    assert found.prediction.text == "Good film"
    assert llm.requests[1].sampling.stop == ("\n",)


def test_the_generic_style_asks_for_steps_and_not_for_the_person() -> None:
    llm = model("So.")
    considered(llm, ThinkOptions("generic"))
    assert "step by step" in llm.requests[0].messages[0].content
    assert "this person" not in llm.requests[0].messages[0].content


def test_both_requests_use_the_adapter() -> None:
    llm = model("So.")
    run(adapted(think([job()], STARS), "alice"), Ports(llm))
    assert [one.adapter for one in llm.requests] == ["alice", "alice"]


CHAT = (Message("system", "Be kind."), Message("user", "Tea or coffee?"))


def said(llm: FakeLLM, options: ThinkOptions = ThinkOptions()) -> Said:
    return run(deliberate(CHAT, Sampling(max_tokens=9), options), Ports(llm))


def test_a_chat_is_thought_about_and_answered_without_the_thought() -> None:
    llm = model("They drink tea.", after="Tea.", direct="Coffee.")
    answer = said(llm)
    assert (answer.text, answer.thought) == ("Tea.", "They drink tea.")
    assert answer.usage.requests == 2
    assert llm.requests[1].sampling.max_tokens == 9


def test_a_chat_whose_thought_runs_over_is_answered_as_if_there_was_none() -> None:
    llm = model(OVERRUN, direct="Coffee.")
    answer = said(llm)
    assert (answer.text, answer.thought) == ("Coffee.", "")
    assert llm.requests[1].messages == CHAT


def test_a_chat_that_cannot_be_answered_raises() -> None:
    broken = ModelReply(error="BackendTimeout: 60 s", finish="error")
    with pytest.raises(BackendError, match="60 s"):
        said(FakeLLM(lambda request: broken))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Tea.", "Tea."),
        ("<think>a</think>Tea.<think>b</think>", "Tea."),
        ("a</think>\n\nTea.", "Tea."),
        ("Tea. <think>never ends", "Tea."),
        ("<THINK>a</THINK> Tea.", "Tea."),
    ],
)
def test_no_part_of_a_thought_is_left(text: str, left: str) -> None:
    assert without_thought(text) == left


@pytest.mark.parametrize(
    ("bad", "says"),
    [({"style": "loud"}, "'loud'"), ({"overrun": "x"}, "'x'"), ({"budget": 3}, "3 tokens")],
)
def test_options_say_what_is_wrong(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ThinkOptions(**bad)  # type: ignore[arg-type]  # that is the test


@pytest.mark.real("model")
def test_the_embedded_model_thinks_within_its_budget_and_weighs_the_options() -> None:
    with LocalLLM() as llm:
        cut = run(think([job()], STARS, ThinkOptions(budget=16, overrun="cut")), Ports(llm))[0]
        direct = run(predict([job()], STARS), Ports(llm))[0]
        over = run(think([job()], STARS, ThinkOptions(budget=8)), Ports(llm))[0]
    assert cut.thought.text
    assert cut.prediction.logprobs is not None
    assert cut.prediction.logprobs != direct.logprobs
    assert (over.follows, over.prediction.text) == (False, direct.text)

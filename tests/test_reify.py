"""Reification: the tuned model is asked, and only what it says more than its base is believed."""

from __future__ import annotations

import json

import pytest

from persona_agent.drive import Ports, run
from persona_agent.llm import FakeLLM
from persona_agent.llm.fake import Answer
from persona_agent.reify import reify
from persona_agent.types import ModelReply, ModelRequest

SAID = {
    "taste": ["Likes westerns", "Likes films"],
    "habits": ["Watches at night", "Is diabetic", "Likes westerns"],
    "style": ["Ignore: see https://x.example"],
}
TUNED = {"Likes westerns": -4.0, "Likes films": -6.0, "Watches at night": -3.0}
BASE = {"Likes westerns": -10.0, "Likes films": -6.0, "Watches at night": -15.0}


def says(request: ModelRequest) -> str:
    asked = request.messages[-1].content
    topic = next(one for one in SAID if f"{one}:" in asked)
    return json.dumps({"lines": SAID[topic]})


def answer(request: ModelRequest) -> Answer:
    if request.purpose == "reify":
        assert request.adapter == "alice"
        return says(request)
    (line,) = request.choices
    assert not request.template
    return [(TUNED if request.adapter else BASE)[line.strip()]]


def test_what_the_adapter_makes_likelier_is_kept_the_most_telling_first() -> None:
    llm = FakeLLM(answer)
    found = run(reify("alice"), Ports(llm))
    assert [one.text for one in found.lines] == ["Watches at night", "Likes westerns"]
    assert found.gains == (4.0, 3.0)
    assert {(one.origin, one.evidence) for one in found.lines} == {("adapter", ())}
    assert [len(batch) for batch in llm.calls] == [3, 6]
    why = "\n".join(found.refused)
    for reason in ("as likely without the adapter", "is sensitive (health)", "a link"):
        assert reason in why


def test_the_best_are_kept_where_there_are_too_many_and_a_gain_can_be_asked_for() -> None:
    assert len(run(reify("alice", most=1), Ports(FakeLLM(answer))).lines) == 1
    assert run(reify("alice", least_gain=5.0), Ports(FakeLLM(answer))).lines == ()


def test_without_likelihoods_what_was_said_stands_in_its_order() -> None:
    def plain(request: ModelRequest) -> Answer:
        return says(request) if request.purpose == "reify" else request.choices[0]

    found = run(reify("alice"), Ports(FakeLLM(plain)))
    assert [one.text for one in found.lines] == [
        "Likes westerns",
        "Likes films",
        "Watches at night",
    ]
    assert found.gains == (None, None, None)


@pytest.mark.parametrize(
    "bad", [ModelReply(error="BackendTimeout: 60 s", finish="error"), ModelReply("so", parsed="so")]
)
def test_a_model_that_fails_gives_no_lines(bad: ModelReply) -> None:
    found = run(reify("alice", topics=["taste"]), Ports(FakeLLM(lambda request: bad)))
    assert found.lines == ()
    assert len(found.refused) == (bad.error is not None)

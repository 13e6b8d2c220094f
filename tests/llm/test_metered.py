"""The meter counts what is asked, what is told, and the time between."""

from __future__ import annotations

from itertools import count

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm import FakeLLM
from persona_agent.llm.metered import MeteredLLM, Spent
from persona_agent.types import Message, ModelReply, ModelRequest, Usage

ASK = ModelRequest((Message("user", "two words"),))


def metered(inner: FakeLLM) -> MeteredLLM:
    ticks = count()
    return MeteredLLM(inner, clock=lambda: float(next(ticks)))


def test_it_adds_up_usage_and_seconds_and_changes_no_reply() -> None:
    inner = FakeLLM(lambda request: "three whole words")
    model = metered(inner)
    assert model.complete([ASK, ASK]) == inner.complete([ASK, ASK])
    model.complete([ASK])
    assert model.take() == Spent(Usage(3, 6, 0, 9), 2.0)


def test_taking_begins_again_at_nothing() -> None:
    model = metered(FakeLLM(lambda request: "x"))
    model.complete([ASK])
    model.take()
    assert model.take() == Spent()


def test_replies_that_tell_no_usage_count_as_requests() -> None:
    model = metered(FakeLLM(lambda request: ModelReply(error="no")))
    model.complete([ASK])
    assert model.take() == Spent(Usage(requests=1), 1.0)


def test_an_engine_that_fails_has_cost_its_time() -> None:
    def fail(request: ModelRequest) -> str:
        raise BackendError("dead")

    model = metered(FakeLLM(fail))
    with pytest.raises(BackendError, match="dead"):
        model.complete([ASK])
    assert model.take() == Spent(Usage(requests=1), 1.0)


def test_it_closes_the_inner_model_once() -> None:
    class Held(FakeLLM):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    inner = Held(lambda request: "x")
    model = MeteredLLM(inner)
    model.close()
    model.close()
    assert inner.closed == 1
    MeteredLLM(FakeLLM(lambda request: "x")).close()  # one that holds nothing

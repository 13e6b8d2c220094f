"""The meter counts what is asked, what is told, and the time between."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from itertools import count

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm import FakeLLM
from persona_agent.llm.metered import MeteredLLM, Spent, metered
from persona_agent.ports import LLM, ConcurrentLLM, SaltedLLM
from persona_agent.types import Message, ModelReply, ModelRequest, Usage

ASK = ModelRequest((Message("user", "two words"),))


def ticking(inner: LLM) -> MeteredLLM:
    """Return a model with a meter whose clock is one further each time it is read."""
    ticks = count()
    return metered(inner, clock=lambda: float(next(ticks)))


class Later(FakeLLM):
    """A model that works on many batches at once: each is answered when the test says so."""

    honours_salt = True

    def __init__(self) -> None:
        super().__init__(lambda request: "three whole words")
        self.futures: list[Future[list[ModelReply]]] = []

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        self.futures.append(Future())
        return self.futures[-1]


def test_it_adds_up_usage_and_seconds_and_changes_no_reply() -> None:
    inner = FakeLLM(lambda request: "three whole words")
    model = ticking(inner)
    assert model.complete([ASK, ASK]) == inner.complete([ASK, ASK])
    model.complete([ASK])
    assert model.take() == Spent(Usage(3, 6, 0, 9), 2.0)


def test_taking_begins_again_at_nothing() -> None:
    model = ticking(FakeLLM(lambda request: "x"))
    model.complete([ASK])
    model.take()
    assert model.take() == Spent()


def test_replies_that_tell_no_usage_count_as_requests() -> None:
    model = ticking(FakeLLM(lambda request: ModelReply(error="no")))
    model.complete([ASK])
    assert model.take() == Spent(Usage(requests=1), 1.0)


def test_an_engine_that_fails_has_cost_its_time() -> None:
    def fail(request: ModelRequest) -> str:
        raise BackendError("dead")

    model = ticking(FakeLLM(fail))
    with pytest.raises(BackendError, match="dead"):
        model.complete([ASK])
    assert model.take() == Spent(Usage(requests=1), 1.0)


def test_it_closes_the_inner_model_once() -> None:
    class Held(FakeLLM):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    inner = Held(lambda request: "x")
    model = metered(inner)
    model.close()
    model.close()
    assert inner.closed == 1
    metered(FakeLLM(lambda request: "x")).close()  # one that holds nothing


def test_a_concurrent_model_stays_one_and_overlapping_calls_count_their_time_once() -> None:
    inner = Later()
    model = ticking(inner)
    assert isinstance(model, ConcurrentLLM)
    first, second = model.submit([ASK]), model.submit([ASK, ASK])
    assert (first, second) == tuple(inner.futures)
    first.set_result(inner.complete([ASK]))
    assert model.take() == Spent(Usage(1, 2, 0, 3), 0.0)
    second.set_exception(BackendError("dead"))
    assert model.take() == Spent(Usage(requests=2), 1.0)


def test_a_cancelled_call_is_cancelled_inside_and_has_cost_its_time() -> None:
    inner = Later()
    model = ticking(inner)
    assert isinstance(model, ConcurrentLLM)
    assert model.submit([ASK]).cancel()
    assert inner.futures[0].cancelled()
    assert model.take() == Spent(Usage(requests=1), 1.0)


def test_a_meter_makes_no_model_concurrent_and_tells_the_truth_about_salts() -> None:
    plain = metered(FakeLLM(lambda request: "x"))
    assert not isinstance(plain, ConcurrentLLM)
    assert isinstance(plain, SaltedLLM)
    assert not plain.honours_salt
    assert metered(Later()).honours_salt

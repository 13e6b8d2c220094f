"""What was asked is kept: once, across a kill, within a budget, errors never."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import BudgetExceeded, StoreError
from persona_agent.eval.ablation.cache import Budget, Cache, CachedEmbedder, CachedLLM
from persona_agent.llm.fake import FakeLLM
from persona_agent.llm.replies import failed
from persona_agent.memory.embed import HashEmbedder
from persona_agent.types import Message, ModelReply, ModelRequest


def request(text: str) -> ModelRequest:
    return ModelRequest((Message("user", text),))


def shout(one: ModelRequest) -> str:
    return one.messages[-1].content.upper()


def test_what_was_asked_is_not_asked_again_by_anybody(tmp_path: Path) -> None:
    llm = FakeLLM(shout)
    asked = [request(text) for text in ("b", "a", "b")]
    with Cache(tmp_path / "c.db") as cache:
        first = CachedLLM(llm, cache, "m").complete(asked)
        assert [one.text for one in first] == ["B", "A", "B"]
        assert [one.messages[0].content for one in llm.requests] == [
            "a",
            "b",
        ]  # each once, in order
    with Cache(tmp_path / "c.db") as cache:
        again = CachedLLM(llm, cache, "m")
        assert again.complete(asked) == first
        assert (again.asked, len(llm.requests)) == (0, 2)
        CachedLLM(llm, cache, "another model").complete(asked[:1])
        assert len(llm.requests) == 3


def test_log_probabilities_and_parsed_values_come_back_as_they_were(tmp_path: Path) -> None:
    choice = ModelRequest((Message("user", "x"),), choices=("1", "2"))
    schema = ModelRequest((Message("user", "y"),), schema={"type": "object"})
    llm = FakeLLM(lambda one: [-0.5, -1.25] if one.choices else '{"a": [1, null]}')
    with Cache(tmp_path / "c.db") as cache:
        first = CachedLLM(llm, cache, "m").complete([choice, schema])
        assert CachedLLM(llm, cache, "m").complete([choice, schema]) == first
    assert first[0].logprobs == (-0.5, -1.25)
    assert first[1].parsed == {"a": [1, None]}


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    asked = [request(f"{number:02}") for number in range(10)]

    def dies(one: ModelRequest) -> str:
        if one.messages[0].content == "07":
            raise KeyboardInterrupt
        return shout(one)

    with Cache(tmp_path / "c.db") as cache, pytest.raises(KeyboardInterrupt):
        CachedLLM(FakeLLM(dies), cache, "m", part=3).complete(asked)
    with Cache(tmp_path / "c.db") as cache:
        after = CachedLLM(FakeLLM(shout), cache, "m", part=3)
        assert [one.text for one in after.complete(asked)] == [f"{n:02}" for n in range(10)]
        assert after.asked == 4  # two parts of three were kept


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    replies = iter([failed(StoreError("busy")), ModelReply("fine")])
    llm = FakeLLM(lambda one: next(replies))
    with Cache(tmp_path / "c.db") as cache:
        cached = CachedLLM(llm, cache, "m")
        assert cached.complete([request("a")])[0].error
        assert cached.complete([request("a")])[0].text == "fine"
        assert cached.complete([request("a")])[0].text == "fine"


def test_a_budget_stops_before_it_is_exceeded_and_what_is_kept_is_free(tmp_path: Path) -> None:
    asked = [request(f"{number:02}") for number in range(10)]
    llm = FakeLLM(shout)
    with Cache(tmp_path / "c.db") as cache:
        small = CachedLLM(llm, cache, "m", budget=Budget(requests=6), part=3)
        with pytest.raises(
            BudgetExceeded, match="6 model requests are made, which is the budget, and 4 more"
        ):
            small.complete(asked)
        assert len(llm.requests) == 6
        again = CachedLLM(llm, cache, "m", budget=Budget(requests=4), part=3)
        assert len(again.complete(asked)) == 10
        words = CachedLLM(llm, cache, "other", budget=Budget(tokens=4), part=1)
        with pytest.raises(BudgetExceeded, match="4 tokens are used up, the budget is 4"):
            words.complete(asked)


def test_seconds_are_shared_by_the_work_of_a_batch(tmp_path: Path) -> None:
    ticks = iter([0.0, 6.0])
    with Cache(tmp_path / "c.db") as cache:
        cached = CachedLLM(FakeLLM(shout), cache, "m", clock=lambda: next(ticks))
        asked = [request("one"), request("one two three")]
        cached.complete(asked)
        keys = [cached.key(one) for one in asked]
        assert cache.seconds(keys) == pytest.approx(6.0)
        assert 0 < cache.seconds(keys[:1]) < cache.seconds(keys[1:])
        assert cache.seconds(["unknown"]) == 0


def test_a_text_is_embedded_once(tmp_path: Path) -> None:
    class Counting(HashEmbedder):
        seen: list[str] = []  # noqa: RUF012 - of this one test

        def embed(self, texts):  # type: ignore[no-untyped-def]
            self.seen.extend(texts)
            return super().embed(texts)

    inner = Counting()
    with Cache(tmp_path / "c.db") as cache:
        embedder = CachedEmbedder(inner, cache)
        first = embedder.embed(["a b", "c", "a b"])
        np.testing.assert_array_equal(first, HashEmbedder().embed(["a b", "c", "a b"]))
        np.testing.assert_array_equal(embedder.embed(["c"]), first[1:2])
        assert embedder.embed([]).shape == (0, inner.dim)
    assert inner.seen == ["a b", "c"]


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"c\.db' cannot be used"):
        Cache(tmp_path / "c.db")

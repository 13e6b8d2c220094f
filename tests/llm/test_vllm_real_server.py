"""A real vLLM server, started by the command that serve-model prints, through the openai backend."""

from __future__ import annotations

import time
from urllib.request import urlopen

import numpy as np
import pytest

from persona_agent.llm.openai import OpenAILLM
from persona_agent.types import Json, Message, ModelRequest, Sampling

pytestmark = pytest.mark.real("vllm")

FILMS = "".join(f"Film: Number {i} (19{i + 50})\nRating: {i % 5 + 1}\n\n" for i in range(24))


def ask(text: str, **options: object) -> ModelRequest:
    return ModelRequest((Message("user", text),), **options)  # type: ignore[arg-type]


def rate(film: str, **options: object) -> ModelRequest:
    text = f"{FILMS}Film: {film}\nRating:"
    stars = tuple(f" {i}" for i in range(1, 6))
    return ask(text, choices=stars, template=False, **options)


def test_it_is_known_for_what_it_is(served: OpenAILLM) -> None:
    assert served.honours_salt


@pytest.mark.parametrize("choices", [(" 1", " 2", " 5"), (" Toy Story (1995)", " Heat and Dust")])
def test_scores_are_those_of_the_embedded_model(
    served: OpenAILLM, local: object, choices: tuple[str, ...]
) -> None:
    """Two engines, two precisions of the same weights: the same to a few hundredths a token."""
    request = ask(f"{FILMS}Film: Casino\nRating:", choices=choices, template=False)
    here = served.complete([request])[0].logprobs
    there = local.complete([request])[0].logprobs  # type: ignore[attr-defined]
    assert here is not None
    assert here == pytest.approx(there, abs=0.5 * max(len(one.split()) + 3 for one in choices))


def test_the_same_salt_shares_a_cache_and_another_does_not(served: OpenAILLM) -> None:
    plain = Sampling(max_tokens=2)
    one, same, other = (
        served.complete([ask(FILMS, sampling=plain, cache_salt=salt)])[0].usage.cached_tokens
        for salt in ("acme", "acme", "other")
    )
    assert one == 0
    assert same > 0
    assert other == 0


def test_an_adapter_answers_in_its_own_way(served: OpenAILLM) -> None:
    asked = [rate("Casino"), rate("Casino", adapter="ann"), rate("Casino")]
    replies = served.complete(asked)
    assert [reply.error for reply in replies] == [None] * 3
    base, ann, again = (np.array(reply.logprobs, dtype=float) for reply in replies)
    assert np.abs(base - ann).max() > np.abs(base - again).max()  # more than rounding


def test_json_follows_its_schema(served: OpenAILLM) -> None:
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
        "additionalProperties": False,
    }
    asked = ask("How old is Ann, who is 7?", schema=schema, sampling=Sampling(max_tokens=40))
    reply = served.complete([asked])[0]
    assert isinstance(reply.parsed, dict)
    assert isinstance(reply.parsed["age"], int)
    assert reply.salvaged == ()


def test_giving_up_frees_the_engine(served: OpenAILLM) -> None:
    """While eight long stories are told, a cancelled future makes room at once."""
    stories = [ask(f"Tell story {i}.", sampling=Sampling(max_tokens=1500)) for i in range(8)]
    future = served.submit(stories)
    time.sleep(1)
    assert future.cancel()
    reply = served.complete([ask("Say hello.", sampling=Sampling(max_tokens=2))])[0]
    assert reply.error is None
    root = served.base_url.removesuffix("/v1")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with urlopen(f"{root}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        running = [one for one in lines if one.startswith("vllm:num_requests_running")]
        if running and all(float(one.split()[-1]) == 0 for one in running):
            return
        time.sleep(0.2)
    pytest.fail(f"the engine still works on cancelled requests: {running}")

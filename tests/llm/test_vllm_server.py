"""A vLLM server through the openai backend: what is sent, and scores against a naive sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from persona_agent.llm.openai import OpenAILLM
from persona_agent.ports import ConcurrentLLM, SaltedLLM
from persona_agent.types import Message, ModelReply, ModelRequest, Sampling

Start = Callable[..., Any]
USER = Message("user", "How was it?")


def plain(text: str, *choices: str) -> ModelRequest:
    return ModelRequest((Message("user", text),), choices=choices, template=False)


def ask(url: str, *requests: ModelRequest, **options: Any) -> list[ModelReply]:
    with OpenAILLM("m", base_url=url, timeout_s=10, **options) as llm:
        return llm.complete(requests)


PROMPTS = [
    plain("A film\nRating:", " 1", " 2", " 3"),
    plain("I like", " Toy Story", " Toy Soldiers", " Heat", " Toy"),
    plain("Rating: ", "1", "2"),  # the space merges with the choice
    plain("So\nMani", "fold good", "fest", " pulite"),
    plain("one\n\n", "two", "three four"),
    plain("x" * 300 + " word " * 90, "yes", "no"),
]


@pytest.mark.parametrize("labels", [True, False], ids=["labels", "older server"])
@pytest.mark.parametrize("request_", PROMPTS)
def test_choices_are_scored_whole_by_either_way(
    endpoint: Start, vllm_play: Any, request_: ModelRequest, labels: bool
) -> None:
    play = vllm_play(labels=labels)
    server = endpoint(play, owner="vllm")
    first, again = ask(server.base_url, request_, request_)
    expected = play.scores(request_.messages[0].content, request_.choices)
    assert first.logprobs == pytest.approx(expected)
    assert again.logprobs == first.logprobs
    assert first.text == request_.choices[expected.index(max(expected))]
    assert first.usage.requests == 1


def test_a_chat_is_scored_behind_its_template_and_behind_a_beginning(
    endpoint: Start, vllm_play: Any
) -> None:
    play = vllm_play()
    server = endpoint(play, owner="vllm")
    fresh = ModelRequest((USER,), choices=("Good", "Bad"))
    begun = ModelRequest((USER, Message("assistant", "It was")), choices=(" good", " very bad"))
    replies = ask(server.base_url, fresh, begun)
    assert replies[0].logprobs == pytest.approx(
        play.scores("[user]How was it?[assistant]\n", fresh.choices)
    )
    assert replies[1].logprobs == pytest.approx(
        play.scores("[user]How was it?[assistant]It was", begun.choices)
    )


def test_ratings_cost_one_completion_each_and_how_they_are_tokenised_is_remembered(
    endpoint: Start, vllm_play: Any
) -> None:
    server = endpoint(vllm_play(), owner="vllm")
    films = [plain(f"Film {i}\nRating:", " 1", " 2", " 3") for i in range(3)]
    with OpenAILLM("m", base_url=server.base_url) as llm:
        llm.complete(films[:1])
        server.seen.clear()
        replies = llm.complete(films[1:])
    asked = [body for body in server.seen if "max_tokens" in body]
    assert len(asked) == 2
    assert len(server.seen) == 4  # and one tokenisation of each prompt
    assert {body["max_tokens"] for body in asked} == {1}
    assert [len(body["logprob_token_ids"]) for body in asked] == [3, 3]
    assert [reply.usage.cached_tokens for reply in replies] == [2, 2]


def test_salts_adapters_and_seeds_reach_every_way_of_asking(
    endpoint: Start, vllm_play: Any
) -> None:
    server = endpoint(vllm_play(), owner="vllm")
    same: dict[str, Any] = {"adapter": "lora", "cache_salt": "s"}
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    sampling = Sampling(max_tokens=5, stop=("\n",), seed=3)
    chat, text, scored, parsed = ask(
        server.base_url,
        ModelRequest((USER,), sampling, **same),
        ModelRequest((USER,), sampling, template=False, **same),
        ModelRequest((USER,), choices=("a", "b"), template=False, **same),
        ModelRequest((USER,), sampling, schema=schema, template=False, **same),
    )
    assert (chat.text, text.text, parsed.parsed) == ("chat", '{"age": 7}', {"age": 7})
    assert scored.logprobs is not None
    writing = [body for body in server.seen if "max_tokens" in body]
    assert {body["model"] for body in server.seen} == {"lora"}
    assert {body["cache_salt"] for body in writing} == {"s"}
    texts = [body for body in writing if body.get("prompt") == "How was it?"]
    assert len(texts) == 2
    assert all((body["stop"], body["seed"]) == (["\n"], 3) for body in texts)
    constrained = next(body for body in texts if "response_format" in body)
    assert constrained["response_format"]["json_schema"]["schema"] == schema


def test_what_the_endpoint_is_is_asked_once_and_not_where_it_was_said(
    endpoint: Start, vllm_play: Any
) -> None:
    server = endpoint(vllm_play(), owner="vllm")
    request = plain("x", "a", "b")
    with OpenAILLM("m", base_url=server.base_url) as llm:
        llm.complete([request] * 5)
        assert llm.honours_salt
        llm.complete([request])
    assert server.listed == 1
    ask(server.base_url, request, vllm=True)
    assert server.listed == 1


@pytest.mark.parametrize("owner", ["llamacpp", None])
def test_another_server_is_not_taken_for_vllm(endpoint: Start, owner: str | None) -> None:
    message = {"content": "hi"}
    server = endpoint(lambda _: (200, {"choices": [{"message": message}]}), owner=owner)
    with OpenAILLM("m", base_url=server.base_url) as llm:
        assert not llm.honours_salt
        assert llm.complete([plain("x")])[0].text == "hi"
    assert server.paths == ["/v1/chat/completions"]


def test_it_is_what_drivers_look_for() -> None:
    with OpenAILLM("m", base_url="http://127.0.0.1:1/v1", vllm=True) as llm:
        assert isinstance(llm, ConcurrentLLM)
        assert isinstance(llm, SaltedLLM)


def test_an_unknown_adapter_disturbs_no_other(endpoint: Start, vllm_play: Any) -> None:
    play = vllm_play()

    def answer(body: dict[str, Any]) -> Any:
        return (404, {"error": {"message": "no"}}) if body["model"] == "gone" else play(body)

    server = endpoint(answer, owner="vllm")
    bad, good = ask(server.base_url, ModelRequest((USER,), adapter="gone"), ModelRequest((USER,)))
    assert "adapter 'gone'" in str(bad.error)
    assert good.text == "chat"

"""The real engine: what it scores, shares, keeps apart, and how it lets go."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import BackendError
from persona_agent.llm.vllm import MOST_LORAS, VLLM
from persona_agent.types import Message, ModelRequest, Sampling

pytestmark = pytest.mark.real("vllm")

FILMS = "".join(f"Film: Number {i} (19{i + 50})\nRating: {i % 5 + 1}\n\n" for i in range(24))
STARS = tuple(f" {i}" for i in range(1, 6))
TITLES = (" Toy Story (1995)", " Heat", " Heat and Dust", " Heathers")
TOLERANCE = 0.02  # a token, in single precision, whatever the cache holds


def ask(text: str, **options: object) -> ModelRequest:
    return ModelRequest((Message("user", text),), **options)  # type: ignore[arg-type]


def rate(film: str, **options: object) -> ModelRequest:
    text = f"{FILMS}Film: {film}\nRating:"
    return ask(text, choices=STARS, template=False, **options)


@pytest.mark.parametrize("choices", [STARS, TITLES])
def test_scores_are_those_of_the_model_read_by_another_engine(
    vllm: VLLM, weights: Path, choices: tuple[str, ...]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    prompt = f"{FILMS}Film: Casino\nRating:"
    before = tokenizer(prompt).input_ids
    reply = vllm.complete([ask(prompt, choices=choices, template=False)])[0]
    assert reply.logprobs is not None
    for choice, score in zip(choices, reply.logprobs, strict=True):
        whole = tokenizer(prompt + choice).input_ids
        assert whole[: len(before)] == before
        with torch.no_grad():
            logprobs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        path = range(len(before), len(whole))
        expected = sum(float(logprobs[i - 1, whole[i]]) for i in path)
        assert score == pytest.approx(expected, abs=TOLERANCE * len(path))


def test_the_prompt_of_many_choices_is_read_once(vllm: VLLM) -> None:
    salt = "read once"
    first = vllm.complete([rate("Casino", cache_salt=salt)])[0].usage
    assert first.cached_tokens == 0
    again = vllm.complete([rate(f"Other {i}", cache_salt=salt) for i in range(8)])
    shared = sum(reply.usage.cached_tokens for reply in again)
    assert shared > 0.8 * sum(reply.usage.prompt_tokens for reply in again)


def test_the_same_salt_shares_a_cache_and_another_does_not(vllm: VLLM) -> None:
    """The same question three times: only who has the first one's salt is answered from it."""
    one, same, other = (
        vllm.complete([rate("Casino", cache_salt=salt)])[0].usage.cached_tokens
        for salt in ("acme", "acme", "other")
    )
    assert one == 0
    assert same > 0
    assert other == 0


def test_adapters_answer_each_in_its_own_way_within_one_batch(vllm: VLLM) -> None:
    names = [None, "ann", "ben", "ann"]
    scores = [
        reply.logprobs for reply in vllm.complete([rate("Casino", adapter=name) for name in names])
    ]
    base, ann, ben, again = (np.array(one, dtype=float) for one in scores)
    near = np.abs(ann - again).max()  # the same adapter: rounding
    for one, two in ((base, ann), (base, ben), (ann, ben)):
        assert np.abs(one - two).max() > 2 * near


def test_who_has_no_adapter_is_not_answered_by_somebody_elses(
    vllm: VLLM, new_lora: Callable[[int], Path]
) -> None:
    more = [f"more {i}" for i in range(MOST_LORAS - 2)]
    for number, name in enumerate(more, 2):
        vllm.load_adapter(name, new_lora(number))
    try:
        others = [
            rate("Heat", adapter=name) for name in ("ann", "ben", *more)
        ]  # all there is room for
        alone, among = (
            np.array(vllm.complete([rate("Heat", cache_salt=salt), *batch])[0].logprobs)
            for salt, batch in (("alone", []), ("among others", others))
        )
    finally:
        for name in more:
            vllm.unload_adapter(name)
    assert np.abs(alone - among).max() < TOLERANCE / 100


def test_adapters_are_refused_where_nothing_keeps_them_apart(
    weights: Path, new_lora: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "another")
    with pytest.raises(BackendError, match="without the plugin 'persona_agent'"):
        VLLM(weights, adapters={"ann": new_lora(0)})


def test_an_adapter_comes_and_goes_while_the_engine_runs(
    vllm: VLLM, new_lora: Callable[[int], Path], tmp_path: Path
) -> None:
    vllm.load_adapter("cid", new_lora(1))  # the same weights as ben's
    assert vllm.adapters() == {"ann", "ben", "cid"}
    base, ben, cid = (
        np.array(reply.logprobs, dtype=float)
        for reply in vllm.complete([rate("Casino", adapter=name) for name in (None, "ben", "cid")])
    )
    assert np.abs(ben - cid).max() < np.abs(ben - base).max() / 2
    with pytest.raises(BackendError, match="already"):
        vllm.load_adapter("cid", new_lora(1))
    with pytest.raises(BackendError, match="no adapter_config"):
        vllm.load_adapter("dan", tmp_path)
    vllm.unload_adapter("cid")
    assert vllm.adapters() == {"ann", "ben"}
    assert "there is no adapter 'cid'" in str(vllm.complete([rate("x", adapter="cid")])[0].error)
    with pytest.raises(BackendError, match="to unload"):
        vllm.unload_adapter("cid")


def test_an_unknown_adapter_is_told_and_disturbs_nobody(vllm: VLLM) -> None:
    wrong, right = vllm.complete([rate("Casino", adapter="eve"), rate("Casino")])
    assert "there is no adapter 'eve'; known: ann, ben" in str(wrong.error)
    assert right.error is None


def test_a_prompt_that_is_too_long_is_told_and_disturbs_nobody(vllm: VLLM) -> None:
    long, right = vllm.complete([ask("word " * 3000), ask("Say hello.", sampling=Sampling(4))])
    assert str(long.error).startswith("ContextTooLong: the prompt has ")
    assert right.text


def test_control_tokens_in_a_message_are_text(vllm: VLLM) -> None:
    """The end of a turn, spelled by a user, does not end the turn."""
    plain = vllm.complete([ask("hello", sampling=Sampling(1))])[0].usage.prompt_tokens
    spelled = vllm.complete([ask("hello<|im_end|>", sampling=Sampling(1))])[0].usage.prompt_tokens
    assert spelled > plain + 1


def test_json_that_was_cut_off_is_asked_for_once_more_with_twice_the_tokens(vllm: VLLM) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}}
    schema |= {"required": ["age"], "additionalProperties": False}
    asked = ask("How old is Ann, who is 7?", schema=schema, sampling=Sampling(5))
    reply = vllm.complete([asked])[0]
    assert reply.usage.completion_tokens > 5
    assert reply.usage.requests == 1
    if reply.finish == "stop":
        assert isinstance(reply.parsed, dict)
    else:
        assert "was cut off" in str(reply.error)


def test_cancelling_takes_the_requests_off_the_engine(vllm: VLLM) -> None:
    future = vllm.submit([ask(f"Tell story {i}.", sampling=Sampling(1500)) for i in range(8)])
    time.sleep(0.5)
    assert vllm._engine.get_num_unfinished_requests() > 0
    assert future.cancel()
    assert vllm.complete([ask("Say hello.", sampling=Sampling(2))])[0].text
    assert vllm._engine.get_num_unfinished_requests() == 0


def test_an_engine_that_ends_nothing_costs_a_bounded_time(vllm: VLLM) -> None:
    patience = vllm._stall_s
    vllm._stall_s = 0.3
    try:
        stories = [ask(f"Tell story {i}.", sampling=Sampling(1500)) for i in range(4)]
        replies = vllm.complete(stories)
    finally:
        vllm._stall_s = patience
    assert any("vLLM ended no request for 0.3 s" in str(reply.error) for reply in replies)
    assert vllm.complete([ask("Say hello.", sampling=Sampling(2))])[0].text


def test_long_prompts_with_a_seed_do_not_kill_the_engine(vllm: VLLM) -> None:
    """On the CPU they do, if a prompt is read in parts."""
    seeded = Sampling(4, temperature=0.7, seed=1)
    asked = [ask(f"{i} " + "long " * 1500, sampling=seeded, template=False) for i in range(8)]
    assert [reply.error for reply in vllm.complete(asked)] == [None] * 8


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context_tokens is 3; it must be at least 16"):
        VLLM(tmp_path, context_tokens=3)
    with pytest.raises(BackendError, match="there is no adapter_config"):
        VLLM(tmp_path, adapters={"ann": tmp_path / "nowhere"})
    with pytest.raises(ValueError, match="does not take the engine arguments"):
        VLLM(tmp_path, engine={"no_such_argument": 1})
    with pytest.raises(BackendError, match="vLLM could not load"):
        VLLM(tmp_path)

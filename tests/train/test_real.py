"""The real model: what is trained answers the same by vLLM, by llama.cpp and where it was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from persona_agent.llm.local import LocalLLM, embedded_model
from persona_agent.llm.openai import OpenAILLM
from persona_agent.llm.served_adapters import ServedAdapters
from persona_agent.memory.adapter_rows import Adapter
from persona_agent.predict import Job, log_softmax, requests_of
from persona_agent.task import situation
from persona_agent.train.base import Base
from persona_agent.train.encode import rows_of
from persona_agent.train.examples import examples
from persona_agent.train.loop import train
from persona_agent.train.merge import merge_gguf
from persona_agent.train.options import TrainOptions
from persona_agent.train.score import asks_of, option_logprobs
from persona_agent.train.trainer import _write
from persona_agent.types import Interaction, ModelRequest

pytestmark = [pytest.mark.real("vllm"), pytest.mark.real("model"), pytest.mark.real("train")]

Rated = Callable[..., list[Interaction]]
OPTIONS = TrainOptions(
    rate=3e-3, epochs=3, window=4, batch=4, targets=("q_proj", "k_proj", "v_proj")
)


@pytest.fixture(scope="module")
def trained(
    weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[float], list[float], ModelRequest]:
    """An adapter of the real model, and what base and adapter say of the next outcome there."""
    from tests.train.conftest import RATING, START, rated

    history = rated("ann", 9)
    base = Base.open(str(weights))
    rows = rows_of(base.tokenizer, examples(history[:8], RATING, OPTIONS), 999)
    done = train(base, rows, OPTIONS)
    asks = asks_of(history, RATING, 1, OPTIONS)
    plain = option_logprobs(base, base.model, asks, 999)[0][0]
    with base.adapted(OPTIONS, done.weights) as model:
        model.eval()
        adapted = option_logprobs(base, model, asks, 999)[0][0]
    folder = tmp_path_factory.mktemp("adapter")
    adapter = Adapter("a", "default", "ann", "tft", "local", "b", START)
    _write(folder, adapter, (), OPTIONS, done.weights)
    before = tuple(history[6:8])
    (request,) = requests_of([Job((), before, situation(history[8], RATING))], RATING)
    return folder, plain, adapted, request


def scores(told: object) -> list[float]:
    return log_softmax(told.logprobs)  # type: ignore[attr-defined]


def apart(one: list[float], two: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, two, strict=True))


def test_llama_cpp_answers_as_the_model_that_was_trained(
    trained: tuple[Path, list[float], list[float], ModelRequest], tmp_path: Path
) -> None:
    folder, plain, adapted, request = trained
    assert apart(plain, adapted) > 0.3  # it learned something
    merged = merge_gguf(embedded_model(), folder, tmp_path / "merged.gguf")
    with LocalLLM(merged, threads=1, slots=1, context_tokens=512) as llm:
        told = scores(llm.complete([request])[0])
    assert apart(told, adapted) < 0.3 * apart(plain, adapted)
    assert [one.name for one in tmp_path.iterdir()] == ["merged.gguf"]


def test_a_running_server_takes_an_adapter_and_lets_it_go(
    trained: tuple[Path, list[float], list[float], ModelRequest], served: OpenAILLM
) -> None:
    from dataclasses import replace

    folder, plain, adapted, request = trained
    host = ServedAdapters(served.base_url)
    host.load_adapter("trained", folder)
    assert "trained" in host.adapters()
    try:
        base, own = served.complete([request, replace(request, adapter="trained")])
    finally:
        host.unload_adapter("trained")
    assert apart(scores(own), adapted) < 0.3 * apart(plain, adapted)
    assert apart(scores(base), plain) < 0.3 * apart(plain, adapted)
    assert "trained" not in host.adapters()
    (gone,) = served.complete([replace(request, adapter="trained")])
    assert gone.error is not None

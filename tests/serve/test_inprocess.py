"""A model of this process behind the server: what it can do, what it refuses, the real one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from persona_agent.eval.bench.serve_process import ADMIN as BENCH_ADMIN
from persona_agent.eval.bench.serve_process import server as process
from persona_agent.llm import FakeLLM
from persona_agent.llm.openai import OpenAILLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.store import Store
from persona_agent.serve.inprocess import ModelUpstream
from persona_agent.serve.service import Parts
from persona_agent.types import Scope
from tests.serve.conftest import ADMIN, Running

ASKED: list[Any] = [{"role": "user", "content": "Which tea?"}]


@pytest.fixture
def fake(serve: Callable[..., Running]) -> Any:
    llm = FakeLLM(lambda request: '{"name": "tea"}' if request.schema else "Green.")
    server = serve(Parts(llm, ModelUpstream(llm, "fake"), HashEmbedder()))
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN, max_retries=0) as client:
        yield client, llm


def test_a_model_of_ours_answers_whole_and_as_a_stream(fake: Any) -> None:
    client, llm = fake
    told = client.chat.completions.create(
        model="fake", messages=ASKED, user="ann", temperature=0, max_tokens=7, stop=["x"]
    )
    assert told.choices[0].message.content == "Green."
    assert told.usage.total_tokens > 0
    sampling = llm.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.stop) == (7, 0.0, ("x",))
    stream = client.chat.completions.create(
        model="fake",
        messages=ASKED,
        user="ann",
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Green."
    assert chunks[-1].usage.completion_tokens == 1
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "drink", "schema": schema}}
    shaped = client.chat.completions.create(
        model="fake", messages=ASKED, user="ann", response_format=wanted
    )
    assert json.loads(shaped.choices[0].message.content) == {"name": "tea"}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"logprobs": True},
        {"temperature": "hot"},
        {"response_format": {"type": "nonsense"}},
    ],
)
def test_what_it_cannot_honour_is_refused(fake: Any, more: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        fake[0].chat.completions.create(model="fake", messages=ASKED, user="ann", extra_body=more)


@pytest.mark.real("model")
def test_the_command_serves_the_embedded_model_and_ends_in_order(tmp_path: Path) -> None:
    database = str(tmp_path / "real.db")
    settings = {"llm": "local", "embedder": "hash", "threads": "1", "base_url": ""}
    with (
        process(database, "", settings) as (url, running),
        openai.OpenAI(
            base_url=f"{url}/v1", api_key=BENCH_ADMIN, max_retries=0, timeout=240
        ) as client,
    ):
        first = client.chat.completions.with_raw_response.create(
            model="local", messages=ASKED, user="ann", max_tokens=8, temperature=0
        )
        assert first.parse().choices[0].message.content
        stream = client.chat.completions.create(
            model="local",
            messages=[{"role": "user", "content": "I drink green tea."}],
            user="ann",
            max_tokens=8,
            stream=True,
        )
        text = "".join(one.choices[0].delta.content or "" for one in stream if one.choices)
        assert text
        running.send_signal(signal.SIGTERM)
        running.wait(120)
    with Store.open(database) as store:
        kept = store.get_all(Scope("ann"))
    assert [one.query for one in kept] == ["Which tea?", "I drink green tea."]
    assert kept[1].response == text
    assert list((tmp_path / "real.db-journal.d").iterdir()) == []


@pytest.mark.real("vllm")
def test_vllm_behind_the_server_keeps_tenants_caches_apart(
    served: OpenAILLM, serve: Callable[..., Running]
) -> None:
    server = serve(llm="openai:small", base_url=served.base_url, api_key="", timeout_s=240)
    long = "Tell me about tea and its history, please. " * 30

    def cached(tenant: str) -> int:
        key = server.key("many-users", tenant=tenant)
        url = f"{server.url}/v1"
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=240) as client:
            told = client.chat.completions.create(
                model="small",
                messages=[{"role": "user", "content": long}],
                user="ann",
                max_tokens=4,
                extra_body={"cache_salt": "the client's own"},
                extra_headers={"X-Persona-Mode": "off"},
            )
        assert told.usage is not None
        details = told.usage.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0

    assert cached("acme") == 0
    assert cached("acme") > 100
    assert cached("other") == 0

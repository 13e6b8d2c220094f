"""Real clients through the server with real models behind it: vLLM on the CPU, and the embedded one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import openai
import pytest

from persona_agent.llm.openai import OpenAILLM
from persona_agent.types import Scope
from tests.serve.conftest import ADMIN, Running

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["tea", "coffee"]}},
    "required": ["name"],
    "additionalProperties": False,
}
SHAPED: Any = {"type": "json_schema", "json_schema": {"name": "drink", "schema": SCHEMA}}
TOOL: Any = {"type": "function", "function": {"name": "order", "parameters": SCHEMA}}
LITELLM = """
import json, os
import litellm
litellm.telemetry = False
told = litellm.completion(
    model="openai/" + os.environ["MODEL"],
    messages=[{"role": "user", "content": "I drink green tea."}],
    extra_headers={"x-litellm-end-user-id": "lee"},
    max_tokens=4,
    temperature=0,
)
parts = litellm.completion(
    model="openai/" + os.environ["MODEL"],
    messages=[{"role": "user", "content": "Which tea?"}],
    extra_headers={"x-litellm-end-user-id": "lee"},
    max_tokens=4,
    temperature=0,
    stream=True,
)
text = "".join(one.choices[0].delta.content or "" for one in parts)
print(json.dumps([told.choices[0].message.content, text]))
"""


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def before_vllm(served: OpenAILLM, serve: Callable[..., Running]) -> Running:
    """A server of ours before a vLLM server."""
    return serve(llm="openai:small", base_url=served.base_url, api_key="", timeout_s=240)


def kept(server: Running, user: str) -> list[tuple[str, str | None]]:
    server.settle()
    store = server.service.memory.store
    return [(one.query, one.response) for one in store.get_all(Scope(user))]


@pytest.mark.real("vllm")
def test_openais_client_with_vllm_behind(before_vllm: Running) -> None:
    url = f"{before_vllm.url}/v1"
    with openai.OpenAI(base_url=url, api_key=ADMIN, max_retries=0, timeout=240) as client:
        make: Any = client.chat.completions.create
        common = {"model": "small", "user": "ann", "temperature": 0}
        first = make(messages=asked("I drink green tea."), max_tokens=4, **common)
        assert first.usage.prompt_tokens > 0
        raw = client.chat.completions.with_raw_response.create(
            messages=asked("Which tea?"), max_tokens=4, **common
        )
        assert "x-persona-memory" in raw.headers
        drink = make(messages=asked("A drink?"), max_tokens=32, response_format=SHAPED, **common)
        assert json.loads(drink.choices[0].message.content)["name"] in ("tea", "coffee")
        order = make(messages=asked("Order."), max_tokens=8, tools=[TOOL], **common)
        assert order.choices[0].finish_reason in ("length", "stop", "tool_calls")
        parts = list(make(messages=asked("More?"), max_tokens=4, stream=True, **common))
        text = "".join(one.choices[0].delta.content or "" for one in parts if one.choices)
    told = kept(before_vllm, "ann")
    assert told[0] == ("I drink green tea.", first.choices[0].message.content)
    assert told[-1] == ("More?", text)


@pytest.mark.real("vllm")
def test_many_users_at_once_by_the_async_client_with_vllm_behind(before_vllm: Running) -> None:
    async def talk() -> list[str]:
        url = f"{before_vllm.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=ADMIN, timeout=240) as client:

            async def one(user: str) -> str:
                parts = await client.chat.completions.create(
                    model="small",
                    messages=asked(f"I am {user}."),
                    user=user,
                    max_tokens=4,
                    temperature=0,
                    stream=True,
                )
                said = [p.choices[0].delta.content or "" async for p in parts if p.choices]
                return "".join(said)

            return await asyncio.gather(*(one(f"user {n}") for n in range(6)))

    for number, text in enumerate(asyncio.run(talk())):
        assert kept(before_vllm, f"user {number}") == [(f"I am user {number}.", text)]


def by_litellm(server: Running, model: str) -> list[str]:
    """Return what LiteLLM, in a process of its own, is answered: whole, and as a stream."""
    environ = {
        **os.environ,
        "OPENAI_API_KEY": ADMIN,
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "MODEL": model,
    }
    done = subprocess.run(
        [sys.executable, "-c", LITELLM], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.real("vllm")
def test_litellm_with_vllm_behind(before_vllm: Running) -> None:
    pytest.importorskip("litellm")
    first, second = by_litellm(before_vllm, "small")
    assert kept(before_vllm, "lee") == [("I drink green tea.", first), ("Which tea?", second)]


@pytest.mark.real("model")
def test_litellm_with_the_embedded_model_behind(serve: Callable[..., Running]) -> None:
    pytest.importorskip("litellm")
    server = serve(llm="local", base_url="", api_key="", timeout_s=240)
    first, second = by_litellm(server, "local")
    assert first
    assert kept(server, "lee") == [("I drink green tea.", first), ("Which tea?", second)]

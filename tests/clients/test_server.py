"""Other people's clients through our server: they change their base URL, and name the user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persona_agent.eval.bench.stub_upstream import stub_app
from persona_agent.memory.embed import HashEmbedder
from persona_agent.serve.app import create_app
from persona_agent.serve.config import Config
from persona_agent.serve.service import Parts
from persona_agent.types import Scope
from tests.clients.test_docs import BLOCKS, OFFLINE, ROOT, is_for_server
from tests.serve.conftest import ADMIN, Running, listening
from tests.snippets import Block, cases, run_python

pytestmark = pytest.mark.real("faiss")

Seen = list[dict[str, Any]]


@pytest.fixture
def seen() -> Seen:
    """What the upstream got: path, headers, body."""
    return []


@pytest.fixture
def server(seen: Seen, tmp_path: Path) -> Iterator[Running]:
    """A server with a hash embedder before an endpoint that answers without a model."""
    with listening(stub_app(seen=seen)) as upstream:
        config = Config.model_validate(
            {
                "database": str(tmp_path / "persona.db"),
                "llm": "openai:stub",
                "base_url": f"{upstream.url}/v1",
                "api_key": "the-upstreams-key",
                "admin_key": ADMIN,
                "learn": {"enabled": False},
            }
        )
        with listening(create_app(config, Parts(embedder=HashEmbedder()))) as running:
            yield running


def system(seen: Seen) -> str:
    first = seen[-1]["body"]["messages"][0]
    return str(first["content"]) if first["role"] == "system" else ""


@pytest.mark.parametrize("block", cases([one for one in BLOCKS if is_for_server(one)], "python"))
def test_the_example_runs(block: Block, tmp_path: Path, server: Running, seen: Seen) -> None:
    token = server.key("many-users")
    endpoint = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": token, **OFFLINE}
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **endpoint}
    run_python(block, tmp_path, environ, strict=False)
    server.settle()
    kept = server.service.memory.store.get_all(Scope("alice"))
    assert [one.query for one in kept] == ["What should I read?"]
    assert len(seen) == 1
    assert all("x-persona-user" not in one["headers"] for one in seen)


def say(text: str) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "gpt-5-mini", "stream": True, "messages": [message]}


def test_open_webui_and_litellm_name_their_user_by_the_headers_they_document(
    server: Running, seen: Seen
) -> None:
    headers = {
        "X-OpenWebUI-User-Name": "Alice",
        "X-OpenWebUI-User-Id": "0b7c2a3e-alice",
        "X-OpenWebUI-User-Email": "alice@example.org",
        "X-OpenWebUI-User-Role": "user",
        "X-OpenWebUI-Chat-Id": "chat-1",
    }
    with server.client(server.key("many-users")) as client:
        told = client.post("/v1/chat/completions", json=say("I like tea."), headers=headers)
        assert told.status_code == 200
        assert "data: [DONE]" in told.text
        server.settle()
        client.post("/v1/chat/completions", json=say("What do I like?"), headers=headers)
        assert "I like tea." in system(seen)
        litellm = {"x-litellm-end-user-id": headers["X-OpenWebUI-User-Id"]}
        client.post("/v1/chat/completions", json=say("What do I like?"), headers=litellm)
        assert "I like tea." in system(seen)
        other = {**headers, "X-OpenWebUI-User-Id": "bob"}
        client.post("/v1/chat/completions", json=say("What do I like?"), headers=other)
    assert "I like tea." not in system(seen)
    assert not any(
        name.startswith(("x-openwebui", "x-litellm")) for one in seen for name in one["headers"]
    )

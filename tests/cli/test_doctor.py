"""The doctor: it proves the loop with the parts that are set up, and warns of what is unsafe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persona_agent.cli import main
from persona_agent.cli.loop import NEXT, history, prove_loop
from persona_agent.cli.unsafe import unsafe_address, unsafe_cache, unsafe_server
from persona_agent.errors import PersonaAgentError
from persona_agent.llm import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.serve.config import Config
from persona_agent.types import ModelReply, ModelRequest
from tests.clients.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give an endpoint of our own."""
    made = Upstream()
    yield made
    made.close()


SAFE = "http://127.0.0.1:8000/v1"


def knows(request: ModelRequest) -> ModelReply:
    """A model that has understood: it finds low ratings of horror likely, high ones of the rest."""
    if not request.choices:
        return ModelReply("2")
    prompt = "\n".join(message.content for message in request.messages)
    is_horror = "(Horror)" in prompt.strip().splitlines()[-2:][0]
    likely = {"1", "2"} if is_horror else {"4", "5"}
    logprobs = tuple(-0.5 if one in likely else -4.0 for one in request.choices)
    return ModelReply(request.choices[logprobs.index(-0.5)], logprobs=logprobs)


@pytest.mark.real("faiss")
def test_the_loop_is_proved_and_the_model_stays_open() -> None:
    closed: list[bool] = []

    class Model(FakeLLM):
        def close(self) -> None:
            closed.append(True)

    said = prove_loop(Model(knows), HashEmbedder(64))
    assert said.startswith("16 interactions remembered, recalled and forgotten; a persona of ")
    assert NEXT in said
    assert not closed
    assert {one.outcome for one in history()} == {"1", "2", "4", "5"}


@pytest.mark.real("faiss")
def test_a_model_that_breaks_half_way_is_told() -> None:
    def breaks(request: ModelRequest) -> ModelReply:
        return ModelReply(error="out of memory", finish="error")

    with pytest.raises(PersonaAgentError, match="out of memory"):
        prove_loop(FakeLLM(breaks), HashEmbedder(64))


@pytest.mark.real("faiss")
@pytest.mark.real("model")
@pytest.mark.real("embedder")
@pytest.mark.real("data")
def test_the_whole_command_with_the_embedded_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--db", str(tmp_path / "p.db"), "--json", "doctor"])
    found = {one["part"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(found) == "python|database|index|embedder|model|demo data|loop".split("|")
    assert all(one["ok"] and not one["is_warning"] for one in found.values())
    assert "predicted" in found["loop"]["detail"]


def test_what_is_unsafe_about_an_address() -> None:
    assert unsafe_address(SAFE, has_key=False) == []
    assert unsafe_address("https://models.example/v1", has_key=True) == []
    (clear,) = unsafe_address("http://models.example/v1", has_key=True)
    assert "unencrypted" in clear
    (open_to_all,) = unsafe_address("https://models.example/v1", has_key=False)
    assert "without a key" in open_to_all
    for secret in ("https://u:hunter2@models.example", "https://models.example/?api_key=hunter2"):
        (told,) = unsafe_address(secret, has_key=True)
        assert "holds a secret" in told
        assert "hunter2" not in told
    assert unsafe_cache("openai:m", honours_salt=True) == []
    assert "no cache_salt" in unsafe_cache("openai:m", honours_salt=False)[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"auth": "off"}, "auth is off"),
        ({"host": "0.0.0.0"}, "without encryption"),
        ({"log_user_text": True}, "log_user_text is on"),
        ({"cache_policy": "off"}, "share the engine's prefix cache"),
        ({"jwt": {"jwks_url": "http://keys.example/jwks"}}, "is not https"),
        ({"base_url": "http://models.example/v1", "api_key": "k"}, "unencrypted"),
    ],
)
def test_what_is_unsafe_about_a_server(change: dict[str, Any], says: str | None) -> None:
    found = unsafe_server(Config(**change))
    if says is None:
        assert found == []
    else:
        (told,) = found
        assert says in told


@pytest.mark.real("faiss")
@pytest.mark.real("data")
def test_an_endpoint_without_salts_is_a_warning_and_no_failure(
    tmp_path: Path, upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.answer = lambda body: {
        "role": "assistant",
        "content": "8" if "2, 4, 6" in str(body["messages"]) else "4",
    }
    config = tmp_path / "serve.toml"
    config.write_text('auth = "off"\n')
    endpoint = ["--llm", "openai:stub", "--base-url", upstream.base_url, "--embedder", "hash"]
    main(["--db", str(tmp_path / "p.db"), *endpoint, "doctor", "--config", str(config)])
    shown = capsys.readouterr().out.splitlines()
    assert not [line for line in shown if line.startswith("FAIL")]
    warned = [line for line in shown if line.startswith("warn")]
    assert [line.split()[1] for line in warned] == ["endpoint", "server"]
    assert "no cache_salt" in warned[0]
    assert "auth is off" in warned[1]

"""Who serves the weights of an ablation: a server is given them once, and others are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from persona_agent.cli.ablate_weights import Weights, check_serves, serving
from persona_agent.cli.settings import Settings
from persona_agent.llm.openai import OpenAILLM
from tests.adapter_server import AdapterServer, adapter_server

SETTINGS = Settings("persona.db", "openai:small", "hash", None, None, "default", as_json=False)


@pytest.fixture
def server() -> Iterator[AdapterServer]:
    """A server that is running."""
    with adapter_server() as running:
        yield running


def test_a_server_is_given_each_adapter_once(server: AdapterServer, tmp_path: Path) -> None:
    settings = replace(SETTINGS, base_url=server.url)
    weights = Weights(folders={"tft-a": tmp_path / "a", "tft-b": tmp_path / "b"})
    check_serves(settings, server.url)
    for _ in range(2):
        llm = serving(settings, weights, server.url)
        assert isinstance(llm, OpenAILLM)
        llm.close()
    folders = {name: str(folder.resolve()) for name, folder in weights.folders.items()}
    assert server.loaded == folders  # the server refuses a name that is loaded already


def test_a_model_behind_an_address_alone_serves_none() -> None:
    with pytest.raises(click.UsageError, match="openai:small serves no adapters"):
        check_serves(SETTINGS, None)
    check_serves(replace(SETTINGS, llm="vllm:folder"), None)

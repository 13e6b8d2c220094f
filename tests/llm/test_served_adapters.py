"""The adapters of a vLLM server, as an endpoint plays it; and how the server is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm.served_adapters import ServedAdapters
from persona_agent.llm.serving import Machine, serving
from tests.adapter_server import AdapterServer, adapter_server


@pytest.fixture
def server() -> Iterator[AdapterServer]:
    """A server that is running."""
    with adapter_server() as running:
        yield running


def test_adapters_are_loaded_listed_and_unloaded(server: AdapterServer, tmp_path: Path) -> None:
    host = ServedAdapters(f"{server.url}/", api_key="secret")
    assert host.adapters() == frozenset()
    host.load_adapter("ann", tmp_path)
    assert server.loaded == {"ann": str(tmp_path.resolve())}
    assert host.adapters() == {"ann"}
    with pytest.raises(BackendError, match=r"answered 400: .*already loaded"):
        host.load_adapter("ann", tmp_path)
    host.unload_adapter("ann")
    assert host.adapters() == frozenset()
    assert server.keys == {"Bearer secret"}


def test_a_server_that_cannot_says_how_to_start_it(server: AdapterServer, tmp_path: Path) -> None:
    server.allowed = False
    host = ServedAdapters(server.url)
    with pytest.raises(BackendError, match="started by serve-model --later"):
        host.load_adapter("ann", tmp_path)
    with pytest.raises(BackendError, match="does not answer"):
        ServedAdapters("http://127.0.0.1:9/v1").adapters()


def test_a_server_makes_room_for_later_adapters() -> None:
    plan = serving("model", Machine(), later=True, max_rank=32)
    assert plan.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert plan.command[plan.command.index("--max-lora-rank") + 1] == "32"
    assert "--lora-modules" not in plan.command
    assert any("whoever may reach" in note for note in plan.notes)
    assert "--enable-lora" not in serving("model", Machine()).command
    with pytest.raises(ValueError, match="max_rank is 12"):
        serving("model", Machine(), later=True, max_rank=12)

"""Who serves the weights of an ablation: a server is given them once, and others are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest

from persona_agent.cli.ablate_weights import Weights, check_serves, serving
from persona_agent.cli.settings import Settings
from persona_agent.llm.openai import OpenAILLM

SETTINGS = Settings("persona.db", "openai:small", "hash", None, None, "default", as_json=False)


class Server(ThreadingHTTPServer):
    """Plays what vLLM does when it is asked for adapters, and given some."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer({"data": [{"id": name, "parent": "base"} for name, _ in self.server.loaded]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.loaded.append((body["lora_name"], body["lora_path"]))
        self.answer("done")

    def answer(self, value: object) -> None:
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is running."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_server_is_given_each_adapter_once(server: Server, tmp_path: Path) -> None:
    settings = replace(SETTINGS, base_url=server.url)
    weights = Weights(folders={"tft-a": tmp_path / "a", "tft-b": tmp_path / "b"})
    check_serves(settings, server.url)
    for _ in range(2):
        llm = serving(settings, weights, server.url)
        assert isinstance(llm, OpenAILLM)
        llm.close()
    assert server.loaded == [(name, str(tmp_path / name[-1])) for name in ("tft-a", "tft-b")]


def test_a_model_behind_an_address_alone_serves_none() -> None:
    with pytest.raises(click.UsageError, match="openai:small serves no adapters"):
        check_serves(SETTINGS, None)
    check_serves(replace(SETTINGS, llm="vllm:folder"), None)

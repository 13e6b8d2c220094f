"""The adapters of a vLLM server, as an endpoint plays it; and how the server is started."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm.served_adapters import ServedAdapters
from persona_agent.llm.serving import Machine, serving


class Server(ThreadingHTTPServer):
    """Plays what vLLM does about adapters."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.keys: set[str | None] = set()
        self.allowed = True
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        models = [{"id": "base", "parent": None}]
        models += [{"id": name, "parent": "base"} for name in self.server.loaded]
        self.answer(200, {"data": models})

    def do_POST(self) -> None:
        self.server.keys.add(self.headers["Authorization"])
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.allowed:
            self.answer(404, {"detail": "Not Found"})
        elif self.path.endswith("/unload_lora_adapter"):
            self.server.loaded.pop(body["lora_name"])
            self.answer(200, "done")
        elif body["lora_name"] in self.server.loaded:
            self.answer(400, {"error": "already loaded"})
        else:
            self.server.loaded[body["lora_name"]] = body["lora_path"]
            self.answer(200, "done")

    def answer(self, status: int, value: object) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
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


def test_adapters_are_loaded_listed_and_unloaded(server: Server, tmp_path: Path) -> None:
    host = ServedAdapters(f"http://127.0.0.1:{server.server_port}/v1/", api_key="secret")
    assert host.adapters() == frozenset()
    host.load_adapter("ann", tmp_path)
    assert server.loaded == {"ann": str(tmp_path.resolve())}
    assert host.adapters() == {"ann"}
    with pytest.raises(BackendError, match=r"answered 400: .*already loaded"):
        host.load_adapter("ann", tmp_path)
    host.unload_adapter("ann")
    assert host.adapters() == frozenset()
    assert server.keys == {"Bearer secret"}


def test_a_server_that_cannot_says_how_to_start_it(server: Server, tmp_path: Path) -> None:
    server.allowed = False
    host = ServedAdapters(f"http://127.0.0.1:{server.server_port}/v1")
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

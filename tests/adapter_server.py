"""A server that plays vLLM where only adapters are asked about."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class AdapterServer(ThreadingHTTPServer):
    """Plays what vLLM does about adapters; `loaded` are folders by name, `keys` what was sent."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.keys: set[str | None] = set()
        self.allowed = True
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Its address, as that of an OpenAI-compatible endpoint."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: AdapterServer

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


@contextmanager
def adapter_server() -> Iterator[AdapterServer]:
    """Give a server that runs until the block ends."""
    with AdapterServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()

"""A real HTTP server on loopback that plays an OpenAI-compatible endpoint, and the real model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persona_agent.llm import LocalLLM
from persona_agent.llm.local import embedded_model
from persona_agent.llm.vllm import VLLM
from persona_agent.llm.weights import folder_of

Body = dict[str, Any]
# How to answer a request: status and body. Bytes are sent as they are, but for three: b"drip"
# never ends, b'{"ch' ends too early, and None says nothing.
Play = Callable[[Body], tuple[int, Body | bytes | None]]


UNFINISHED = (b"drip", b'{"ch')


class Endpoint:
    """A scripted endpoint; `seen` holds the bodies it was sent, `keys` the Authorization lines."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.seen: list[Body] = []
        self.keys: list[str] = []
        self.done = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.seen.append(body)
                endpoint.keys.append(self.headers["Authorization"])
                status, answer = endpoint.play(body)
                if answer is None:
                    endpoint.done.wait(20)
                    self.close_connection = True
                    return
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header(
                    "Content-Length", str(len(raw) + (999 if raw in UNFINISHED else 0))
                )
                self.send_header("retry-after-ms", "5")
                self.end_headers()
                if raw == b"drip":
                    while not endpoint.done.is_set():
                        self.wfile.write(b" ")
                        time.sleep(0.02)
                self.wfile.write(raw)
                self.close_connection = raw == b'{"ch'

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[Callable[[Play], Endpoint]]:
    """Starts endpoints that answer each request as a function says."""
    running: list[Endpoint] = []

    def start(play: Play) -> Endpoint:
        running.append(Endpoint(play))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a folder that vLLM loads."""
    return folder_of(embedded_model(), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def vllm(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLM]:
    """The embedded model run by vLLM, with two adapters."""
    adapters = {
        name: random_lora(tmp_path_factory.mktemp(name), weights, seed)
        for seed, name in enumerate(("ann", "ben"))
    }
    with VLLM(weights, adapters=adapters, context_tokens=2048) as llm:
        yield llm


def random_lora(folder: Path, weights: Path, seed: int) -> Path:
    """Write a LoRA of rank 8 on the query projections that changes answers at random."""
    config = json.loads((weights / "config.json").read_text())
    width = config["hidden_size"]
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        base = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        out = config["num_attention_heads"] * config["head_dim"]
        tensors[f"{base}.lora_A.weight"] = rng.normal(0, 0.1, (8, width)).astype(np.float32)
        tensors[f"{base}.lora_B.weight"] = rng.normal(0, 0.1, (out, 8)).astype(np.float32)
    from safetensors.numpy import save_file  # comes with vLLM

    save_file(tensors, folder / "adapter_model.safetensors")
    adapter = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    return folder


@pytest.fixture(scope="session")
def local() -> Iterator[LocalLLM]:
    """The embedded model; one thread, so that a busy machine slows it least."""
    with LocalLLM(threads=1, slots=2, context_tokens=1024) as llm:
        yield llm

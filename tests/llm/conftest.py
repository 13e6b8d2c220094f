"""A real HTTP server on loopback that plays an OpenAI-compatible endpoint, and the real model."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from persona_agent.llm import LocalLLM
from persona_agent.llm.vllm import VLLM as InProcess

Body = dict[str, Any]
# How to answer a request: status, body and perhaps headers, without which retries are asked for
# soon. Bytes are sent as they are, but for three: b"drip" never ends, b'{"ch' ends too early, and
# None says nothing.
Play = Callable[[Body], Any]
SOON = {"retry-after-ms": "5"}


UNFINISHED = (b"drip", b'{"ch')


class Endpoint:
    """A scripted endpoint; `seen` holds the bodies it was sent, `keys` the Authorization lines.

    `times` says when each came. `left` is set when a client goes away before it was answered.
    With an `owner` it lists its models as that server does, else it knows no list.
    """

    def __init__(self, play: Play, owner: str | None = None) -> None:
        self.play = play
        self.seen: list[Body] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.listed = 0
        self.left = threading.Event()
        self.keys: list[str] = []
        self.done = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                endpoint.listed += 1
                raw = json.dumps({"data": [{"id": "m", "owned_by": owner}]}).encode()
                self.send_response(404 if owner is None else 200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.seen.append(body)
                endpoint.keys.append(self.headers["Authorization"])
                endpoint.paths.append(self.path)
                endpoint.times.append(time.monotonic())
                status, answer, *more = endpoint.play(body)
                if answer is None:
                    self.wait_until_left()
                    return
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header(
                    "Content-Length", str(len(raw) + (999 if raw in UNFINISHED else 0))
                )
                for name, value in (more[0] if more else SOON).items():
                    self.send_header(name, value)
                self.end_headers()
                if raw == b"drip":
                    self.drip()
                    return
                try:
                    self.wfile.write(raw)
                except ConnectionError:  # the client did not wait for it
                    endpoint.left.set()
                self.close_connection = raw == b'{"ch'

            def drip(self) -> None:
                self.close_connection = True
                try:
                    while not endpoint.done.is_set():
                        self.wfile.write(b" ")
                        time.sleep(0.02)
                except ConnectionError:
                    endpoint.left.set()

            def wait_until_left(self) -> None:
                self.close_connection = True
                while not endpoint.done.is_set():
                    ready, _, _ = select.select([self.connection], [], [], 0.02)
                    if ready and not self.connection.recv(1, socket.MSG_PEEK):
                        endpoint.left.set()
                        return

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


class VLLM:
    """Plays a vLLM server whose tokens are words, with a space before, and single marks."""

    def __init__(self, *, labels: bool = True) -> None:
        self.labels = labels  # whether it knows logprob_token_ids
        self.words: list[str] = ["<s>"]

    def tokens(self, text: str) -> list[int]:
        for word in re.findall(r" ?\w+|[\s\S]", text):
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in re.findall(r" ?\w+|[\s\S]", text)]

    def logprob(self, before: list[int], token: int) -> float:
        """Return some number that depends on the whole text before."""
        return -(1 + (sum(before) * 31 + token * 17) % 97) / 10

    def scores(self, prompt: str, choices: tuple[str, ...]) -> list[float]:
        """Return for each choice the sum over the tokens that not all have in common."""
        wholes = [self.tokens(prompt + choice) for choice in choices]
        alone = self.tokens(prompt)
        same = len(alone)
        while any(whole[:same] != alone[:same] for whole in wholes):
            same -= 1
        return [
            sum(self.logprob(whole[:i], whole[i]) for i in range(same, len(whole)))
            for whole in wholes
        ]

    def chat(self, body: Body) -> str:
        text = "".join(f"[{one['role']}]{one['content']}" for one in body["messages"])
        return text if body.get("continue_final_message") else f"{text}[assistant]\n"

    def __call__(self, body: Body) -> tuple[int, Body]:
        if "tokens" in body:
            return 200, {"prompt": "".join(self.words[token] for token in body["tokens"])}
        if "max_tokens" not in body:
            text = self.chat(body) if "messages" in body else body["prompt"]
            return 200, {"tokens": self.tokens(text)}
        usage = {"prompt_tokens": len(body.get("prompt", "")), "completion_tokens": 1}
        usage |= {"prompt_tokens_details": {"cached_tokens": 2}}
        if "messages" in body:
            choice = {"message": {"content": "chat"}, "finish_reason": "stop"}
            return 200, {"choices": [choice], "usage": usage}
        choice = {"text": '{"age": 7}', "finish_reason": "stop"}
        if isinstance(body["prompt"], list):
            choice |= self.scored(body)
        return 200, {"choices": [choice], "usage": usage}

    def scored(self, body: Body) -> Body:
        prompt = body["prompt"]
        if "prompt_logprobs" in body:
            told: list[Any] = [None]
            told += [
                {str(token): {"logprob": self.logprob(prompt[:i], token), "rank": 1}}
                for i, token in enumerate(prompt[1:], 1)
            ]
            return {"prompt_logprobs": told}
        labels = body["logprob_token_ids"] if self.labels else [0]
        top = {f"token_id:{token}": self.logprob(prompt, token) for token in labels}
        return {"logprobs": {"top_logprobs": [top]}}


@pytest.fixture
def vllm_play() -> type[VLLM]:
    """How vLLM answers."""
    return VLLM


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints that answer each request as a function says."""
    running: list[Endpoint] = []

    def start(play: Play, owner: str | None = None) -> Endpoint:
        running.append(Endpoint(play, owner))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def vllm(weights: Path, new_lora: Callable[[int], Path]) -> Iterator[InProcess]:
    """The embedded model run by vLLM, with two adapters; in single precision, to compare closely."""
    adapters = {"ann": new_lora(0), "ben": new_lora(1)}
    single = {"dtype": "float32"}
    with InProcess(
        weights, adapters=adapters, adapter_rank=8, context_tokens=2048, engine=single
    ) as llm:
        yield llm


@pytest.fixture(scope="session")
def local() -> Iterator[LocalLLM]:
    """The embedded model; one thread, so that a busy machine slows it least."""
    with LocalLLM(threads=1, slots=2, context_tokens=1024) as llm:
        yield llm

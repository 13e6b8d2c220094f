"""An OpenAI-compatible endpoint that tells what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = Mapping[str, Any]
Message = dict[str, Any]


def says(text: str) -> Callable[[Body], Message]:
    return lambda body: {"role": "assistant", "content": text}


def calls(name: str, arguments: Mapping[str, Any]) -> Message:
    """A message that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class Upstream:
    """An endpoint on loopback: `answer` makes the message, `bodies` holds what it was sent."""

    def __init__(self) -> None:
        self.answer: Callable[[Body], Message] = says("Try a short book.")
        self.failures = 0  # so many requests are answered with 500 first
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                upstream.bodies.append(body)
                upstream.headers.append({k.lower(): v for k, v in self.headers.items()})
                if upstream.failures:
                    upstream.failures -= 1
                    self._send(500, b'{"error": {"message": "not now"}}')
                    return
                make = responses if self.path.endswith("/responses") else chat
                if self.path.endswith("/embeddings"):
                    data = {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}
                    raw = {"object": "list", "data": [data], "model": "stub"}
                    self._send(200, json.dumps(raw).encode())
                    return
                whole, events = make(body, upstream.answer(body))
                if not body.get("stream"):
                    self._send(200, json.dumps(whole).encode())
                    return
                lines = "".join(f"{line}\n\n" for line in events)
                self._send(200, lines.encode(), "text/event-stream")

            def _send(self, status: int, raw: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def system(self) -> str:
        """The system prompt of the latest request; empty if there is none."""
        body = self.bodies[-1]
        if "input" in body:
            return str(body.get("instructions") or "")
        first = body["messages"][0]
        if first["role"] not in ("system", "developer"):
            return ""
        content = first["content"]
        return content if isinstance(content, str) else "\n".join(p["text"] for p in content)


def chat(body: Body, message: Message) -> tuple[Any, list[str]]:
    """Return a chat completion, and the same as events."""
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    base = {"id": "c1", "created": 0, "model": "stub"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
    if message.get("tool_calls"):
        made = [{**one, "index": i} for i, one in enumerate(message["tool_calls"])]
        deltas: list[Any] = [{"role": "assistant", "tool_calls": made}]
    else:
        words = str(message["content"]).split(" ")
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word if i == 0 else f" {word}"} for i, word in enumerate(words)]
    chunk = {**base, "object": "chat.completion.chunk"}
    events: list[Any] = [
        {**chunk, "choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas
    ]
    events.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return whole, [*(f"data: {json.dumps(one)}" for one in events), "data: [DONE]"]


def responses(body: Body, message: Message) -> tuple[Any, list[str]]:
    """Return a response of the Responses API, and the same as events."""
    if message.get("tool_calls"):
        function = message["tool_calls"][0]["function"]
        item: dict[str, Any] = {
            "type": "function_call",
            "call_id": "call_1",
            "id": "f1",
            **function,
        }
        item["status"] = "completed"
    else:
        part = {"type": "output_text", "text": message["content"], "annotations": []}
        item = {"type": "message", "id": "m1", "role": "assistant", "content": [part]}
        item["status"] = "completed"
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "total_tokens": 2,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    whole = {
        "id": "r1",
        "object": "response",
        "created_at": 0,
        "model": "stub",
        "status": "completed",
        "output": [item],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
    started = {**whole, "status": "in_progress", "output": []}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": started}]
    if item["type"] == "message":
        place = {"item_id": "m1", "output_index": 0, "content_index": 0}
        empty = {**item, "content": []}
        events.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
        blank = {**item["content"][0], "text": ""}
        events.append({"type": "response.content_part.added", **place, "part": blank})
        for word in str(message["content"]).split(" "):
            delta = {"delta": word, "logprobs": []}
            events.append({"type": "response.output_text.delta", **place, **delta})
    events.append({"type": "response.completed", "response": whole})
    lines = [
        f"event: {one['type']}\ndata: {json.dumps({**one, 'sequence_number': i})}"
        for i, one in enumerate(events)
    ]
    return whole, lines

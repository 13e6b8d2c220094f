"""A stand-in for a model's endpoint, as a process: OpenAI's chat at once, without a model.

python -m persona_agent.eval.bench.stub_upstream [--delay-ms N] prints its address and serves until
it is ended. What it answers are the last message's first words. With a delay an answer takes half
to one and a half of it, always the same for the same last message, and a stream is spread over it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

HEAD = {"id": "chatcmpl-stub", "created": 1, "model": "stub"}
PIECES = 8
FIRST = 0.3  # of an answer's time is over when a stream's first piece comes


def stub_app(*, delay_s: float = 0.0, seen: list[dict[str, Any]] | None = None) -> Starlette:
    """Return the application; `seen` gets what came: path, headers and body (Any: JSON)."""

    async def chat(request: Request) -> Response:
        body = json.loads(await request.body())
        if seen is not None:
            seen.append({"path": request.url.path, "headers": dict(request.headers), "body": body})
        takes_s = delay_s * _share(body)
        if body.get("stream"):
            return StreamingResponse(_stream(body, takes_s), media_type="text/event-stream")
        await asyncio.sleep(takes_s)
        return JSONResponse(_whole(body))

    async def embeddings(request: Request) -> Response:
        body = json.loads(await request.body())
        if seen is not None:
            seen.append({"path": request.url.path, "headers": dict(request.headers), "body": body})
        given = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"object": "embedding", "index": i, "embedding": [0.6, 0.8]} for i in range(len(given))
        ]
        return JSONResponse({"object": "list", "data": data, "model": "stub", "usage": _usage()})

    async def models(request: Request) -> Response:
        one = {"id": "stub", "object": "model", "created": 1, "owned_by": "stub"}
        return JSONResponse({"object": "list", "data": [one]})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", models),
        ]
    )


def answer_to(body: Mapping[str, Any]) -> str:
    """Return what is answered to a body."""
    content = body["messages"][-1].get("content")
    return f"You said: {str(content)[:60]}"


def _whole(body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer_to(body)}
    finish = "stop"
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Oslo"}'}
        message |= {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        }
        finish = "tool_calls"
    elif (body.get("response_format") or {}).get("type") == "json_schema":
        message["content"] = '{"name": "tea"}'
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": _usage()}


def _share(body: Mapping[str, Any]) -> float:
    """Return 0.5 to 1.5 by the last message: answers that do not all end at the same time."""
    text = str(body["messages"][-1].get("content"))
    return 0.5 + zlib.crc32(text.encode()) / 2**32


async def _stream(
    body: Mapping[str, Any], takes_s: float
) -> Any:  # Any: an async generator of bytes
    text = answer_to(body)
    await asyncio.sleep(FIRST * takes_s)
    size = max(1, -(-len(text) // PIECES))
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    for delta in deltas:
        await asyncio.sleep((1 - FIRST) * takes_s / len(deltas))
        yield _event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield b"data: [DONE]\n\n"


def _event(part: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps({**HEAD, 'object': 'chat.completion.chunk', **part})}\n\n".encode()


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def main(arguments: list[str]) -> None:
    """Serve on a port that the system chooses, and print the address."""
    import uvicorn  # of the extra `server`

    delay_s = float(arguments[arguments.index("--delay-ms") + 1]) / 1000 if arguments else 0.0
    app = stub_app(delay_s=delay_s)
    config = uvicorn.Config(app, port=0, log_level="warning", timeout_keep_alive=75)
    server = uvicorn.Server(config)

    async def serve() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}/v1", flush=True)
        await task

    asyncio.run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])

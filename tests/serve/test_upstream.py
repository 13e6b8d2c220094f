"""The upstream by its address: a connection that it just closed costs no answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from persona_agent.serve.errors import ApiError
from persona_agent.serve.upstream import EndpointUpstream

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MANY = 12
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("closed", [1, 2])
def test_a_connection_that_was_closed_is_tried_anew_once(closed: int) -> None:
    async def talk() -> bytes:
        seen = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            seen += 1
            await reader.readuntil(b"\r\n\r\n")
            if seen > closed:
                writer.write(ANSWER)
                await writer.drain()
            writer.close()

        server, upstream = await served(serve)
        try:
            return await (await upstream.post("/chat/completions", {}, {})).read()
        finally:
            await upstream.close()
            server.close()

    if closed == 1:
        assert asyncio.run(talk()) == b"{}"
    else:
        with pytest.raises(ApiError) as told:
            asyncio.run(talk())
        assert told.value.status == 502


def test_many_at_once_are_answered_and_little_traffic_keeps_one_connection() -> None:
    async def talk() -> tuple[int, int, int]:
        opened: list[int] = []
        all_came = asyncio.Barrier(MANY)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            opened.append(len(opened))
            with contextlib.suppress(asyncio.IncompleteReadError):  # the client has closed
                while head := await reader.readuntil(b"\r\n\r\n"):
                    if b"/together" in head:
                        await all_came.wait()
                    await reader.readexactly(2)
                    writer.write(ANSWER)
            writer.close()

        server, upstream = await served(serve)

        async def ask(path: str) -> None:
            assert await (await upstream.post(path, {}, {})).read() == b"{}"

        try:
            for _ in range(5):
                await ask("/alone")
            alone = len(opened)
            await asyncio.gather(*(ask("/together") for _ in range(MANY)))
            together = len(opened)
            for _ in range(5):
                await ask("/alone")
            return alone, together, len(opened)
        finally:
            await upstream.close()
            server.close()

    alone, together, after = asyncio.run(asyncio.wait_for(talk(), 60))
    assert (alone, together, after) == (1, MANY, MANY)


def test_an_answer_that_is_left_closes_its_connection() -> None:
    async def talk() -> int:
        left = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER[:-2])
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            left.set()
            writer.close()

        server, upstream = await served(serve)
        answer = await upstream.post("/chat/completions", {}, {})
        answer.close()
        answer.close()
        await left.wait()
        await upstream.close()
        server.close()
        return answer.status

    assert asyncio.run(asyncio.wait_for(talk(), 60)) == 200


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", 502, "upstream_refuses_key"),
        (ANSWER[:-1], 502, "upstream_failed"),  # breaks off
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", 504, "upstream_timeout"),  # stalls
        (b"", 504, "upstream_timeout"),
        (b"SSH-2.0\r\n\r\n", 502, "upstream_failed"),
    ],
)
def test_what_goes_wrong_is_told_apart(answer: bytes, status: int, code: str) -> None:
    async def talk() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            if code == "upstream_timeout":
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
            writer.close()

        server, upstream = await served(serve, timeout_s=0.3)
        try:
            await (await upstream.post("/chat/completions", {"a": "b" * 99}, {})).read()
        finally:
            await upstream.close()
            server.close()

    with pytest.raises(ApiError) as told:
        asyncio.run(asyncio.wait_for(talk(), 60))
    assert (told.value.status, told.value.code) == (status, code)


def test_a_connection_that_does_not_come_about_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("persona_agent.serve.upstream.CONNECT_S", 0.2)
    with socket.socket() as deaf, socket.socket() as first:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)  # one may wait, and nobody is let in
        address = deaf.getsockname()
        first.connect(address)

        async def talk() -> None:
            upstream = EndpointUpstream(f"http://127.0.0.1:{address[1]}/v1", "key", 60.0)
            try:
                await upstream.post("/chat/completions", {}, {})
            finally:
                await upstream.close()

        with pytest.raises(ApiError, match="no connection to the upstream") as told:
            asyncio.run(asyncio.wait_for(talk(), 60))
    assert (told.value.status, told.value.code) == (504, "upstream_timeout")


def test_cookies_and_redirects_of_an_upstream_go_no_further() -> None:
    async def talk() -> tuple[int, list[bytes]]:
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError):  # the client has closed
                while True:
                    heads.append(await reader.readuntil(b"\r\n\r\n"))
                    await reader.readexactly(2)
                    writer.write(
                        b"HTTP/1.1 307 There\r\nlocation: /elsewhere\r\nset-cookie: who=ann\r\n"
                        b"content-length: 0\r\n\r\n"
                    )
            writer.close()

        server, upstream = await served(serve)
        for _ in range(2):
            status = (await upstream.post("/chat/completions", {}, {})).status
        await upstream.close()
        server.close()
        return status, heads

    status, heads = asyncio.run(asyncio.wait_for(talk(), 60))
    assert status == 307
    assert len(heads) == 2
    assert b"ann" not in b"".join(heads)


async def served(serve: Serve, timeout_s: float = 60.0) -> tuple[asyncio.Server, EndpointUpstream]:
    """Return a server on this machine, and it as an upstream."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, EndpointUpstream(f"http://127.0.0.1:{port}/v1", "key", timeout_s)

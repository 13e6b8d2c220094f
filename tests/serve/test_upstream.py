"""The upstream by its address: a connection that it just closed costs no answer."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from persona_agent.serve.errors import ApiError
from persona_agent.serve.pools import SIZE, Pools
from persona_agent.serve.upstream import EndpointUpstream

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

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstream = EndpointUpstream(f"http://127.0.0.1:{port}/v1")
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
        all_came = asyncio.Barrier(3 * SIZE)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            opened.append(len(opened))
            with contextlib.suppress(asyncio.IncompleteReadError):  # the client has closed
                while head := await reader.readuntil(b"\r\n\r\n"):
                    if b"/together" in head:
                        await all_came.wait()
                    await reader.readexactly(2)
                    writer.write(ANSWER)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstream = EndpointUpstream(f"http://127.0.0.1:{port}/v1")

        async def ask(path: str) -> None:
            assert await (await upstream.post(path, {}, {})).read() == b"{}"

        try:
            for _ in range(5):
                await ask("/alone")
            alone = len(opened)
            await asyncio.gather(*(ask("/together") for _ in range(3 * SIZE)))
            together = len(opened)
            for _ in range(5):
                await ask("/alone")
            return alone, together, len(opened)
        finally:
            await upstream.close()
            server.close()

    alone, together, after = asyncio.run(asyncio.wait_for(talk(), 60))
    assert (alone, together, after) == (1, 3 * SIZE, 3 * SIZE)


def test_an_answer_that_is_left_gives_its_connection_back() -> None:
    async def talk() -> list[int]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER[:-2])
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pools = Pools(most=SIZE, kept_s=2.0)
        counts = []
        async with httpx.AsyncClient(transport=pools, trust_env=False) as client:
            for _ in range(2 * SIZE):
                answer = await client.send(client.build_request("GET", url), stream=True)
                await answer.aclose()
                await answer.aclose()
            counts += [pool.busy for pool in pools._pools]
        server.close()
        return counts

    assert asyncio.run(asyncio.wait_for(talk(), 60)) == [0]

"""The upstream by its address: a connection that it just closed costs no answer."""

from __future__ import annotations

import asyncio

import pytest

from persona_agent.serve.errors import ApiError
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

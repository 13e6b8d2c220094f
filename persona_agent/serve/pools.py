"""Connections to an endpoint, in pools that stay small.

For every request httpx looks at every connection of its pool, by system calls. With many users at
once that took longer than all the rest of a request, so here a pool has few connections, and the
next one is opened when the first are in use. Little traffic stays in the first pool, and keeps its
connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

SIZE = 4  # connections of a pool


@dataclass(slots=True)
class _Pool:
    """A pool, and how many answers of it are not read to their end yet."""

    transport: httpx.AsyncHTTPTransport
    busy: int = 0


class Pools(httpx.AsyncBaseTransport):
    """A transport over pools of `SIZE` connections, `most` connections in all.

    A connection that is not used is closed after `kept_s` seconds. More requests than connections
    wait. For one event loop.
    """

    def __init__(self, *, most: int, kept_s: float) -> None:
        self._most = max(1, most // SIZE)
        self._limits = httpx.Limits(
            max_connections=SIZE, max_keepalive_connections=SIZE, keepalive_expiry=kept_s
        )
        self._context = httpx.create_ssl_context(trust_env=False)  # slow to make, so made once
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the first pool that has a connection left."""
        pool = self._free()
        pool.busy += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.busy -= 1
            raise
        response.stream = _Counted(response, pool)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.transport.aclose()

    def _free(self) -> _Pool:
        for pool in self._pools:
            if pool.busy < SIZE:
                return pool
        if len(self._pools) < self._most:
            transport = httpx.AsyncHTTPTransport(
                verify=self._context, limits=self._limits, trust_env=False
            )
            self._pools.append(_Pool(transport))
            return self._pools[-1]
        return min(self._pools, key=lambda pool: pool.busy)


class _Counted(httpx.AsyncByteStream):
    """The bytes of an answer; its connection is free again when they are closed."""

    def __init__(self, response: httpx.Response, pool: _Pool) -> None:
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError(f"{response.stream!r} is no stream of an async transport")
        self._stream = response.stream
        self._pool: _Pool | None = pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.busy -= 1
            await self._stream.aclose()

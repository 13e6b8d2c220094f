"""Between an SDK and its endpoint: an HTTP transport that adds what is known and keeps what is said.

It stands below the SDK, so that all of the SDK works as it did: retries, streams, tools, structured
output, raw responses. It hands requests to the HTTP client that was there before, with its proxies,
certificates and hooks. httpx and its successor httpx2, on which the SDK has been built since version
3, have the same classes; the one that the client is made of is used.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any, Self
from weakref import WeakSet

from persona_agent.clients.companion import STATUS_HEADER, Call, Companion
from persona_agent.clients.dialects import dialect_of
from persona_agent.clients.events import Events

# Any, here: classes of httpx or httpx2, whichever the SDK at hand is made of.
PERSONAL: WeakSet[Any] = WeakSet()


def personal_http(http: Any, companion: Companion, *, owns_memory: bool) -> Any:
    """Return an HTTP client that speaks through `http`, sync or async as it is.

    Closing it closes `http`, and the companion if it is owned. Raises ValueError for a client that
    is personal already: it would tell one user of another.
    """
    if http in PERSONAL:
        raise ValueError("this client is wrapped already; wrap the original, once for each user")
    library = _library(http)
    is_async = isinstance(http, library.AsyncClient)
    make = library.AsyncClient if is_async else library.Client
    transport = _AsyncTransport if is_async else _Transport
    made = make(
        transport=transport(http, library, companion, owns_memory),
        timeout=http.timeout,
        trust_env=False,  # the environment's proxies would go around the transport
    )
    PERSONAL.add(made)
    return made


def _library(http: Any) -> Any:
    names = {kind.__module__.split(".")[0] for kind in type(http).__mro__}
    known = sorted(names & {"httpx", "httpx2"})
    if not known:
        raise ValueError(f"the client speaks through {type(http).__name__}; it must be httpx")
    return import_module(known[0])


class _Exchange:
    """What both transports do that needs no waiting for the network."""

    def __init__(self, library: Any, companion: Companion) -> None:
        self._library = library
        self._companion = companion

    def begin(self, request: Any, raw: bytes) -> tuple[Any, Call | None]:
        """Return the request to send, and the call if it is one of a conversation."""
        dialect = dialect_of(request.url.path) if request.method == "POST" else None
        if dialect is None:
            return request, None
        call = self._companion.begin(dialect, raw)
        headers = request.headers.copy()
        headers.pop("content-length", None)
        if call.is_stream:
            headers["accept-encoding"] = "identity"  # events are read from the bytes as they pass
        made = self._library.Request(
            request.method,
            request.url,
            headers=headers,
            content=call.raw,
            extensions=request.extensions,
        )
        return made, call

    def is_stream(self, response: Any) -> bool:
        return str(response.headers.get("content-type", "")).startswith("text/event-stream")

    def end(self, call: Call, response: Any) -> None:
        """Remember a reply that was read, and tell by headers."""
        response.headers.update(call.headers())
        try:
            reply = json.loads(response.content)
        except ValueError:
            return  # not a reply: the SDK judges it
        if not self._companion.end(call, call.dialect.answered(reply)):
            response.headers[STATUS_HEADER] = "degraded"

    def heard(self, call: Call, events: Events) -> None:
        """Remember what came of a stream."""
        answer = call.dialect.streamed(events.values)
        self._companion.end(call, answer, is_whole=events.is_whole)


class _Transport:
    """The transport of a sync client."""

    def __init__(self, http: Any, library: Any, companion: Companion, owns_memory: bool) -> None:
        self._http = http
        self._exchange = _Exchange(library, companion)
        self._companion = companion if owns_memory else None
        self._tee = type("Tee", (_Tee, library.SyncByteStream), {})

    def handle_request(self, request: Any) -> Any:
        sent, call = self._exchange.begin(request, request.read())
        response = self._http.send(sent, stream=True)
        if call is None or not response.is_success:
            return response
        if self._exchange.is_stream(response):
            response.headers.update(call.headers())
            response.stream = self._tee(
                response.stream, lambda events: self._exchange.heard(call, events)
            )
        else:
            response.read()
            self._exchange.end(call, response)
        return response

    def close(self) -> None:
        self._http.close()
        if self._companion is not None:
            self._companion.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Tee:
    """A stream of bytes that is listened to; `heard` is called once, when it is closed."""

    def __init__(self, stream: Any, heard: Callable[[Events], None]) -> None:
        self._stream = stream
        self._events = Events()
        self._heard: Callable[[Events], None] | None = heard

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._events.feed(chunk)
            yield chunk

    def close(self) -> None:
        self._stream.close()
        if self._heard is not None:
            heard, self._heard = self._heard, None
            heard(self._events)


class _AsyncTransport:
    """The transport of an async client; the memory works in a thread."""

    def __init__(self, http: Any, library: Any, companion: Companion, owns_memory: bool) -> None:
        self._http = http
        self._exchange = _Exchange(library, companion)
        self._companion = companion if owns_memory else None
        self._tee = type("AsyncTee", (_AsyncTee, library.AsyncByteStream), {})

    async def handle_async_request(self, request: Any) -> Any:
        raw = await request.aread()
        sent, call = await asyncio.to_thread(self._exchange.begin, request, raw)
        response = await self._http.send(sent, stream=True)
        if call is None or not response.is_success:
            return response
        if self._exchange.is_stream(response):
            response.headers.update(call.headers())
            response.stream = self._tee(
                response.stream, lambda events: self._exchange.heard(call, events)
            )
        else:
            await response.aread()
            await asyncio.to_thread(self._exchange.end, call, response)
        return response

    async def aclose(self) -> None:
        await self._http.aclose()
        if self._companion is not None:
            await asyncio.to_thread(self._companion.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _AsyncTee:
    """An async stream of bytes that is listened to, as `_Tee`."""

    def __init__(self, stream: Any, heard: Callable[[Events], None]) -> None:
        self._stream = stream
        self._events = Events()
        self._heard: Callable[[Events], None] | None = heard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._events.feed(chunk)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
        if self._heard is not None:
            heard, self._heard = self._heard, None
            # Shielded: a reader that is cancelled has still heard what it has heard.
            await asyncio.shield(asyncio.to_thread(heard, self._events))

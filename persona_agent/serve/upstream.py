"""The model behind the server: any OpenAI-compatible endpoint, or a model of ours in this process.

An endpoint gets the request's body as it is, but for what we put in, and none of the client's
headers except a few that are OpenAI's own. Its answer comes back as it is, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import certifi

from persona_agent.llm.endpoint import is_vllm
from persona_agent.serve.errors import ApiError

PASSED_ON = ("openai-organization", "openai-project", "openai-beta", "traceparent", "tracestate")
PASSED_BACK = ("content-type", "retry-after", "retry-after-ms", "x-request-id")
PASSED_BACK_PREFIXES = ("openai-", "x-ratelimit-")
CONNECT_S = 10.0
MOST_CONNECTIONS = 512
KEPT_S = 2.0  # less than the 5 s after which servers close what is idle


@dataclass(slots=True)
class Answered:
    """An upstream's answer: status, headers to pass back, and its bytes as they come.

    `close` gives the connection back; it may be called twice.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    close: Callable[[], None]

    @property
    def is_stream(self) -> bool:
        """Whether these are server-sent events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def read(self) -> bytes:
        """Return all of it."""
        return b"".join([chunk async for chunk in self.chunks])


class Upstream(Protocol):
    """Where chat requests go."""

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Answered:
        """Send a body to a path such as "/chat/completions". Any: JSON, not looked into.

        Raises ApiError where there is no answer.
        """
        ...

    async def models(self) -> list[dict[str, Any]]:
        """Return the models there are, as OpenAI lists them (Any: JSON)."""
        ...

    async def takes_salt(self) -> bool:
        """Whether `cache_salt` in a body keeps prefix caches apart."""
        ...

    async def close(self) -> None:
        """Give up what is open."""
        ...


@dataclass(slots=True)
class EndpointUpstream:
    """An endpoint by its address. `extra` is put into every body, over what a client sent."""

    base_url: str
    api_key: str = field(default="", repr=False)
    timeout_s: float = 120.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    salted: bool | None = None
    _session: aiohttp.ClientSession | None = None

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Answered:
        """Return the endpoint's answer, as soon as its headers are there."""
        sent = {name: headers[name] for name in PASSED_ON if name in headers}
        answer = await self._send(
            "POST",
            path,
            data=json.dumps({**body, **self.extra}).encode(),
            headers={**sent, "content-type": "application/json"},
        )
        if answer.status in (401, 403):
            answer.close()
            raise ApiError(
                502,
                f"the upstream refuses this server's key ({answer.status}); its operator "
                "must set api_key",
                kind="upstream_error",
                code="upstream_refuses_key",
            )
        named = ((name.lower(), value) for name, value in answer.headers.items())
        kept = {
            name: value
            for name, value in named
            if name in PASSED_BACK or name.startswith(PASSED_BACK_PREFIXES)
        }
        return Answered(answer.status, kept, self._chunks(answer), answer.close)

    async def models(self) -> list[dict[str, Any]]:
        """Return what the endpoint lists; raises ApiError 502 if it does not."""
        listed = json.loads(await self._listed())
        data = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(data, list):
            raise _failed("the upstream's list of models is none")
        return data

    async def takes_salt(self) -> bool:
        """Whether the endpoint is vLLM, which is asked once."""
        if self.salted is None:
            try:
                self.salted = is_vllm(await self._listed())
            except ApiError:
                return False  # it does not answer: ask again next time
        return self.salted

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context()
            context.load_verify_locations(certifi.where())  # some systems bring no certificates
            self._session = aiohttp.ClientSession(
                headers={"authorization": f"Bearer {self.api_key}"} if self.api_key else {},
                timeout=aiohttp.ClientTimeout(  # `connect` is until one of the connections is free
                    connect=self.timeout_s, sock_connect=CONNECT_S, sock_read=self.timeout_s
                ),
                connector=aiohttp.TCPConnector(
                    limit=MOST_CONNECTIONS, keepalive_timeout=KEPT_S, ssl=context
                ),
                cookie_jar=aiohttp.DummyCookieJar(),  # users share the session, and nothing else
                trust_env=False,  # a proxy of the environment must not see users' words by surprise
            )
        return self._session

    async def _listed(self) -> str:
        answer = await self._send("GET", "/models")
        raw = b"".join([chunk async for chunk in self._chunks(answer)])
        if answer.status != 200:
            raise _failed(f"the upstream lists no models ({answer.status})")
        try:
            json.loads(raw)
        except ValueError as error:
            raise _failed("the upstream's list of models is not JSON") from error
        return raw.decode("utf-8", "replace")

    async def _send(self, method: str, path: str, **given: Any) -> aiohttp.ClientResponse:
        """Return the answer; a kept connection that the endpoint just closed is tried anew once.

        Any: what aiohttp's request takes.
        """
        session, url = self._open(), self.base_url.rstrip("/") + path
        begun = time.monotonic()
        try:
            try:
                return await session.request(method, url, allow_redirects=False, **given)
            except aiohttp.ClientConnectorError:
                raise  # nobody listens there
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                return await session.request(method, url, allow_redirects=False, **given)
        except aiohttp.ConnectionTimeoutError as error:
            passed = time.monotonic() - begun
            raise _late(f"no connection to the upstream came about in {passed:.1f} s") from error
        except TimeoutError as error:
            raise _late(f"the upstream did not answer within {self.timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise _failed(f"the upstream cannot be reached: {type(error).__name__}") from error

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        except TimeoutError as error:
            raise _late("the upstream stalled") from error
        except aiohttp.ClientError as error:
            raise _failed(f"the upstream broke off: {type(error).__name__}") from error
        finally:
            answer.close()


def _late(message: str) -> ApiError:
    return ApiError(504, message, kind="upstream_error", code="upstream_timeout")


def _failed(message: str) -> ApiError:
    return ApiError(502, message, kind="upstream_error", code="upstream_failed")


async def in_pool(pool: ThreadPoolExecutor, function: Callable[..., Any], *given: Any) -> Any:
    """Return what a blocking function returns, run in a bounded pool. Any: passed through."""
    return await asyncio.get_running_loop().run_in_executor(pool, function, *given)

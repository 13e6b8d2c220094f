"""The model behind the server: any OpenAI-compatible endpoint, or a model of ours in this process.

An endpoint gets the request's body as it is, but for what we put in, and none of the client's
headers except a few that are OpenAI's own. Its answer comes back as it is, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from persona_agent.llm.endpoint import is_vllm
from persona_agent.serve.errors import ApiError
from persona_agent.serve.pools import Pools

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
    close: Callable[[], Any]  # Any: what an async function returns when called

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
    _client: httpx.AsyncClient | None = None

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Answered:
        """Return the endpoint's answer, as soon as its headers are there."""
        sent = {name: headers[name] for name in PASSED_ON if name in headers}
        content = json.dumps({**body, **self.extra}).encode()
        client = self._open()
        request = client.build_request(
            "POST",
            self.base_url.rstrip("/") + path,
            content=content,
            headers={**sent, "content-type": "application/json"},
        )
        answer = await self._send(client, request)
        if answer.status_code in (401, 403):
            await answer.aclose()
            raise ApiError(
                502,
                f"the upstream refuses this server's key ({answer.status_code}); its operator "
                "must set api_key",
                kind="upstream_error",
                code="upstream_refuses_key",
            )
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name in PASSED_BACK or name.startswith(PASSED_BACK_PREFIXES)
        }
        return Answered(answer.status_code, kept, self._chunks(answer), answer.aclose)

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
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            key = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
            self._client = httpx.AsyncClient(
                headers=key,
                timeout=httpx.Timeout(self.timeout_s, connect=CONNECT_S),
                transport=Pools(most=MOST_CONNECTIONS, kept_s=KEPT_S),
                trust_env=False,  # a proxy of the environment must not see users' words by surprise
            )
        return self._client

    async def _listed(self) -> str:
        client = self._open()
        request = client.build_request("GET", self.base_url.rstrip("/") + "/models")
        answer = await self._send(client, request)
        try:
            text = await answer.aread()
        except httpx.HTTPError as error:
            raise _failed(f"the upstream broke off: {type(error).__name__}") from error
        finally:
            await answer.aclose()
        if answer.status_code != 200:
            raise _failed(f"the upstream lists no models ({answer.status_code})")
        try:
            json.loads(text)
        except ValueError as error:
            raise _failed("the upstream's list of models is not JSON") from error
        return text.decode("utf-8", "replace")

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        """Return the answer; a kept connection that the endpoint just closed is tried anew once."""
        try:
            try:
                return await client.send(request, stream=True)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                return await client.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise ApiError(
                504,
                f"the upstream did not answer within {self.timeout_s:g} s",
                kind="upstream_error",
                code="upstream_timeout",
            ) from error
        except httpx.HTTPError as error:
            raise _failed(f"the upstream cannot be reached: {type(error).__name__}") from error

    async def _chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_bytes():
                yield chunk
        except httpx.TimeoutException as error:
            raise ApiError(
                504, "the upstream stalled", kind="upstream_error", code="upstream_timeout"
            ) from error
        except httpx.HTTPError as error:
            raise _failed(f"the upstream broke off: {type(error).__name__}") from error
        finally:
            await answer.aclose()


def _failed(message: str) -> ApiError:
    return ApiError(502, message, kind="upstream_error", code="upstream_failed")


async def in_pool(pool: ThreadPoolExecutor, function: Callable[..., Any], *given: Any) -> Any:
    """Return what a blocking function returns, run in a bounded pool. Any: passed through."""
    return await asyncio.get_running_loop().run_in_executor(pool, function, *given)

"""An HTTP endpoint that is asked patiently: deadlines, retries, pauses, and a circuit breaker.

The openai SDK carries the requests; it does not retry, since it knows neither the deadline nor
what other requests have learned of the endpoint. Foreign exceptions end in this file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit

import openai

from persona_agent.errors import (
    BackendError,
    BackendTimeout,
    ContextTooLong,
    RateLimited,
)
from persona_agent.llm.backoff import Backoff, asked_pause, is_passing
from persona_agent.llm.breaker import Breaker
from persona_agent.llm.wire import Body

TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "maximum context length")
WRITING = ("/chat/completions", "/completions")
SPREAD_S = 0.2  # requests that waited for the same moment start this far apart at most
CLOSING_S = 5.0


class Unusable(Exception):
    """The endpoint cannot be used by anybody."""

    @property
    def error(self) -> BackendError:
        """The same as a public error."""
        plain = BackendError(str(self))
        plain.__cause__ = self.__cause__
        return plain


class Refused(Exception):
    """The endpoint does not accept what was asked: without some option it may."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request was not answered, whether asking again may help, and whose fault it is.

    An endpoint that is `healthy` did answer, if with a refusal. A `fatal` failure is one that
    every other request will meet, too.
    """

    error: Exception
    passing: bool = False
    healthy: bool = False
    fatal: bool = False


class Endpoint:
    """An OpenAI-compatible endpoint, asked for `model`. Used within one event loop.

    A request is tried as often as `backoff` says, within its deadline. What the endpoint asks for
    by 429, Retry-After or rate-limit headers holds for all requests: none is sent before. When
    `breaker` is open nothing is sent at all.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str | None,
        backoff: Backoff,
        breaker: Breaker,
        rng: Random,
    ) -> None:
        host = urlsplit(base_url).hostname
        if host is None or urlsplit(base_url).scheme not in ("http", "https"):
            raise ValueError(f"base_url is {base_url!r}; it must be like http://host:8000/v1")
        self.base_url = base_url
        self.is_openai = host == "openai.com" or host.endswith(".openai.com")
        self._model = model
        self._backoff = backoff
        self._breaker = breaker
        self._rng = rng
        self._not_before = 0.0
        self._changed = asyncio.Event()
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # local servers ask for no key, the SDK insists on one
            base_url=base_url,
            timeout=None,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [self._note]}),
        )

    @property
    def root(self) -> str:
        """Where the server itself is: the address without /v1."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    async def post(self, path: str, body: Body, deadline: float) -> str:
        """Return what the endpoint answers, as text; `deadline` is a time of the event loop.

        Raises Unusable, Refused, or a public error.
        """
        return await self._ask(path, body, deadline)

    async def get(self, path: str, deadline: float) -> str:
        """Return what the endpoint has at a path; raises as `post`."""
        return await self._ask(path, None, deadline)

    async def close(self) -> None:
        """Close the connections."""
        async with asyncio.timeout(CLOSING_S):
            await self._client.close()

    async def _ask(self, path: str, body: Body | None, deadline: float) -> str:
        await self._admission(deadline)
        try:
            raw = await self._tries(path, body, deadline)
        except _Failed as failed:
            trouble = failed.trouble
            if trouble.healthy:
                self._become(self._breaker.succeeded())
            else:
                reason = str(trouble.error)
                self._become(self._breaker.failed(_now(), reason, fatal=trouble.fatal))
            raise trouble.error from failed.__cause__
        except BaseException:
            self._become(self._breaker.abandoned())
            raise
        self._become(self._breaker.succeeded())
        return raw

    async def _admission(self, deadline: float) -> None:
        """Return when a request may be sent; raises Unusable while the breaker is open."""
        while (verdict := self._breaker.verdict(_now())) != "go":
            if verdict == "probe":
                self._become(self._breaker.probed())
                return
            if verdict == "refuse":
                raise Unusable(
                    f"{self.base_url} is not asked for another "
                    f"{self._breaker.opens_in(_now()):.1f} s, after {self._breaker.failures} "
                    f"failures in a row; the last: {self._breaker.reason}"
                )
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                raise BackendTimeout(
                    f"{self.base_url} failed, and the request that tries it again took too long; "
                    f"the last failure: {self._breaker.reason}"
                ) from None

    def _become(self, breaker: Breaker) -> None:
        if breaker != self._breaker:
            self._breaker = breaker
            self._changed.set()
            self._changed = asyncio.Event()

    async def _tries(self, path: str, body: Body | None, deadline: float) -> str:
        for attempt in count():
            await self._quiet(deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    if body is None:
                        return await self._client.get(path, cast_to=str)
                    return await self._client.post(path, body=body, cast_to=str)
            except (TimeoutError, openai.APITimeoutError) as error:
                late = BackendTimeout(
                    f"no answer from {self.base_url} within the deadline, retries included "
                    f"({attempt} of them)"
                )
                raise _Failed(Trouble(late)) from error
            except openai.OpenAIError as error:
                trouble = self._trouble(error, path, body)
                delay = self._backoff.delay(attempt, self._rng)
                if isinstance(trouble.error, RateLimited):
                    self._not_before = max(self._not_before, _now() + delay)
                if (
                    not trouble.passing
                    or attempt >= self._backoff.retries
                    or _now() + delay >= deadline
                ):
                    raise _Failed(trouble) from error
            await asyncio.sleep(delay)
        raise AssertionError("count ends")

    async def _quiet(self, deadline: float) -> None:
        """Wait as long as the endpoint wants to be left alone, if the deadline allows that."""
        while (wait := self._not_before - _now()) > 0:
            if self._not_before >= deadline:
                error = RateLimited(
                    f"{self.base_url} asks to be left alone for another {wait:.1f} s, which is "
                    "later than this request's deadline"
                )
                raise _Failed(Trouble(error, healthy=True))
            await asyncio.sleep(wait + self._rng.random() * SPREAD_S)

    async def _note(self, response: Any) -> None:
        # Any: a response of httpx, whose name changed between versions of the SDK.
        pause = asked_pause(response.status_code, response.headers, datetime.now(UTC))
        if pause > 0:
            self._not_before = max(self._not_before, _now() + pause)

    def _trouble(self, error: openai.OpenAIError, path: str, body: Body | None) -> Trouble:
        """Return what a failure of the SDK means."""
        base = self.base_url
        if isinstance(error, openai.APIConnectionError):
            if any(type(cause).__name__ == "ConnectError" for cause in _causes(error)):
                # By name: which httpx the SDK is built on changed between its versions.
                nobody = Unusable(
                    f"nothing answers at {base}: {error.__cause__}; start the server, or give its "
                    "address (base_url, PERSONA_AGENT_LLM_BASE_URL)"
                )
                return Trouble(nobody, passing=True)
            return Trouble(BackendError(f"the connection to {base} broke: {error}"), passing=True)
        if not isinstance(error, openai.APIStatusError):
            return Trouble(BackendError(f"{base}: {type(error).__name__}: {error}"))
        status, said = error.status_code, _said(error)
        if status == 429:
            return Trouble(RateLimited(f"{base} says {said}"), passing=True, healthy=True)
        if is_passing(status):
            return Trouble(BackendError(f"{base} failed ({status}): {said}"), passing=True)
        written = body is not None and path in WRITING
        if status in (401, 403) and written:
            refused = Unusable(
                f"{base} refuses the key ({status}): {said}; give another (api_key, "
                "PERSONA_AGENT_LLM_API_KEY)"
            )
            return Trouble(refused, fatal=True)
        if status == 404 and written:
            return self._unknown(str((body or {}).get("model")), said)
        if any(sign in str(error.body) or sign in said for sign in TOO_LONG):
            return Trouble(ContextTooLong(said), healthy=True)
        return Trouble(Refused(f"{base} refuses the request ({status}): {said}"), healthy=True)

    def _unknown(self, model: str, said: str) -> Trouble:
        if model != self._model:  # an adapter: other requests do without
            error = BackendError(f"{self.base_url} does not know the adapter {model!r}: {said}")
            return Trouble(error, healthy=True)
        unknown = Unusable(
            f"{self.base_url} does not know the model {model!r} or the path: {said}; base_url often "
            "ends in /v1"
        )
        return Trouble(unknown, fatal=True)


class _Failed(Exception):
    """Carries the trouble of a request out of its tries."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble.error))
        self.trouble = trouble


def is_vllm(models: str) -> bool:
    """Return whether a list of models, as JSON, is vLLM's: that names itself as their owner.

    >>> is_vllm('{"data": [{"id": "m", "owned_by": "vllm"}]}'), is_vllm("hello")
    (True, False)
    """
    try:
        listed = json.loads(models)
    except ValueError:
        return False
    data = listed.get("data") if isinstance(listed, Mapping) else None
    return isinstance(data, list) and any(
        isinstance(one, Mapping) and one.get("owned_by") == "vllm" for one in data
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _said(error: openai.APIStatusError) -> str:
    """Return what the endpoint wrote, shortened; it never holds our key unless they echo it."""
    return str(error.message)[:300]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__

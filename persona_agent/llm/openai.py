"""A model behind any OpenAI-compatible endpoint, through the openai SDK."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import openai

from persona_agent.closing import Closing
from persona_agent.errors import (
    BackendError,
    BackendTimeout,
    ContextTooLong,
    PersonaAgentError,
    RateLimited,
)
from persona_agent.llm import wire
from persona_agent.llm.replies import failed
from persona_agent.llm.structured import json_reply
from persona_agent.types import Json, ModelReply, ModelRequest, Usage

DEFAULT_BASE_URL = "https://api.openai.com/v1"
TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "maximum context length")


class OpenAILLM(Closing):
    """A chat model behind an OpenAI-compatible endpoint; implements the `LLM` port.

    Up to `concurrency` requests of a batch run at once. Each gets `timeout_s` in all, however
    many of its `max_retries` (the SDK's: after 408, 409, 429, 5xx and lost connections) and of
    our own second questions that includes. The environment is not read.

    - A request without `template` is sent as one message of the user. Messages of tools are sent
      as the user's, marked as a tool's result.
    - A beginning of the answer is asked for in words, and taken off the answer if repeated; vLLM
      continues it for real.
    - `schema`: by response_format; if the endpoint refuses that, in words, and code fences and
      reasoning are taken off the answer.
    - `choices` are named in the prompt. If each is one token among the 20 likeliest first tokens,
      log-probabilities come back: those of the word, with or without a space before. Else the
      answer is constrained to the choices, or read from the text, without log-probabilities.
    - `adapter` and `cache_salt` need `vllm=True`, which says that the server is vLLM; elsewhere
      a request with either gets a reply with an error, since neither can be honoured.

    An endpoint that nobody can use (no connection, wrong key, unknown model) raises BackendError.
    Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 2,
        concurrency: int = 8,
        vllm: bool = False,
    ) -> None:
        if not model:
            raise ValueError("the model's name is empty; give one the endpoint knows")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be above 0")
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it must be at least 1")
        if max_retries < 0:
            raise ValueError(f"max_retries is {max_retries}; it must be 0 or more")
        self.base_url = base_url or DEFAULT_BASE_URL
        host = urlsplit(self.base_url).hostname
        if host is None or urlsplit(self.base_url).scheme not in ("http", "https"):
            raise ValueError(f"base_url is {base_url!r}; it must be like http://host:8000/v1")
        self.model = model
        self._timeout_s = timeout_s
        self._concurrency = concurrency
        self._vllm = vllm
        self._is_openai = host.endswith("openai.com")
        self._told_schemas: set[str] = set()  # schemas the endpoint refused to constrain to
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # local servers ask for no key, the SDK insists on one
            base_url=self.base_url,
            timeout=timeout_s,
            max_retries=max_retries,
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order.

        Raises BackendError if the endpoint could not be used for any of them.
        """
        loop = self._running()
        batch = _Batch(asyncio.Semaphore(self._concurrency))

        async def run() -> list[ModelReply | _Unusable]:
            return await asyncio.gather(*(self._one(request, batch) for request in requests))

        # A loop in a thread of its own: a deadline can cancel what runs there, and connections
        # stay open from batch to batch.
        outcomes = asyncio.run_coroutine_threadsafe(run(), loop).result()
        unusable = [one for one in outcomes if isinstance(one, _Unusable)]
        if unusable and len(unusable) == len(outcomes):
            raise unusable[0].error
        return [failed(one.error) if isinstance(one, _Unusable) else one for one in outcomes]

    def close(self) -> None:
        """Close the connections. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._client.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise BackendError(f"the connection to {self.base_url} is closed; open a new one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="openai-llm", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _one(self, request: ModelRequest, batch: _Batch) -> ModelReply | _Unusable:
        async with batch.gate:
            if batch.unusable is not None and not batch.answered:
                return batch.unusable  # do not ask an endpoint that is down once a request
            call = _Call(self, request)
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await call.reply()
            except TimeoutError:
                late = f"no answer from {self.base_url} within {self._timeout_s:g} s"
                return failed(BackendTimeout(f"{late}, retries included"), call.usage)
            except _Unusable as outcome:
                batch.unusable = outcome
                return outcome
            except _Refused as outcome:
                return failed(BackendError(str(outcome)), call.usage)
            except PersonaAgentError as error:
                return failed(error, call.usage)
            batch.answered = True
            return reply

    async def _ask(self, body: wire.Body) -> wire.Answer:
        """Return the endpoint's answer; every foreign exception ends here."""
        try:
            raw = await self._client.post("/chat/completions", body=body, cast_to=str)
        except openai.RateLimitError as error:
            raise RateLimited(f"{self.base_url} says {_said(error)}") from error
        except openai.APITimeoutError as error:
            raise BackendTimeout(f"no answer from {self.base_url}") from error
        except openai.APIConnectionError as error:
            if any(type(cause).__name__ == "ConnectError" for cause in _causes(error)):
                # By name: which httpx the SDK is built on changed between its versions.
                raise _Unusable(
                    f"nothing answers at {self.base_url}: {error.__cause__}; start the server, or "
                    "give its address (base_url, PERSONA_AGENT_LLM_BASE_URL)"
                ) from error
            raise BackendError(f"the connection to {self.base_url} broke: {error}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise _Unusable(
                f"{self.base_url} refuses the key ({error.status_code}): {_said(error)}; give "
                "another (api_key, PERSONA_AGENT_LLM_API_KEY)"
            ) from error
        except openai.NotFoundError as error:
            raise _Unusable(
                f"{self.base_url} does not know the model {body['model']!r} or the path: "
                f"{_said(error)}; base_url often ends in /v1"
            ) from error
        except openai.BadRequestError as error:
            said = _said(error)
            if any(sign in str(error.body) or sign in said for sign in TOO_LONG):
                raise ContextTooLong(said) from error
            raise _Refused(f"{self.base_url} refuses the request (400): {said}") from error
        except openai.APIStatusError as error:
            raise BackendError(
                f"{self.base_url} failed ({error.status_code}): {_said(error)}"
            ) from error
        except openai.OpenAIError as error:
            raise BackendError(f"{self.base_url}: {type(error).__name__}: {error}") from error
        return wire.read(raw)


class _Unusable(Exception):
    """The endpoint cannot be used by anybody."""

    @property
    def error(self) -> BackendError:
        """The same as a public error."""
        plain = BackendError(str(self))
        plain.__cause__ = self.__cause__
        return plain


class _Refused(Exception):
    """The endpoint does not accept what was asked: without some option it may."""


@dataclass(slots=True)
class _Batch:
    """What the requests of one batch tell each other."""

    gate: asyncio.Semaphore
    answered: bool = False
    unusable: _Unusable | None = None


class _Call:
    """One request under way: what it asks of the endpoint, and what it has cost so far."""

    def __init__(self, llm: OpenAILLM, request: ModelRequest) -> None:
        self._llm = llm
        self._request = request
        self.usage = Usage(requests=1)

    async def reply(self) -> ModelReply:
        request = self._request
        if not self._llm._vllm:
            for name in ("adapter", "cache_salt"):
                if getattr(request, name) is not None:
                    raise BackendError(
                        f"only vLLM understands {name}; open the endpoint with vllm=True if it "
                        f"is one, or send no {name}"
                    )
        body = wire.body_of(
            request, model=self._llm.model, vllm=self._llm._vllm, openai=self._llm._is_openai
        )
        if request.choices:
            return await self._choose(body)
        if request.schema is not None:
            answer = await self._structured(body, dict(request.schema))
            text = wire.answer_part(answer.text)
            return json_reply(text, answer.finish, self.usage, request.schema)
        answer = await self._ask(body)
        text = answer.text
        begun = wire.prefill(request)
        if begun and not self._llm._vllm:
            text = text.lstrip().removeprefix(begun.strip()) if begun.strip() else text
        return ModelReply(text, finish=answer.finish, usage=self.usage)

    async def _choose(self, body: wire.Body) -> ModelReply:
        choices = self._request.choices
        body = wire.with_choices_told(body, choices)
        if wire.may_be_tokens(choices):
            try:
                first = (await self._ask(wire.with_logprobs(body))).first_token()
            except _Refused:
                first = {}  # no log-probabilities here: ask for the answer itself
            logprobs = wire.score(choices, first)
            if logprobs is not None:
                best = max(range(len(choices)), key=lambda i: (logprobs[i], -i))
                return ModelReply(choices[best], logprobs=logprobs, usage=self.usage)
        names = [choice.strip() for choice in choices]
        answer = await self._structured(body, wire.choice_schema(names))
        return ModelReply(wire.picked(answer.text, choices), usage=self.usage)

    async def _structured(self, body: wire.Body, schema: Json) -> wire.Answer:
        key = json.dumps(schema, sort_keys=True)
        told = wire.with_schema_told(body, schema)
        if key in self._llm._told_schemas:
            return await self._ask(told)
        try:
            return await self._ask(wire.with_schema(body, schema))
        except _Refused:
            answer = await self._ask(told)
            self._llm._told_schemas.add(key)
            return answer

    async def _ask(self, body: wire.Body) -> wire.Answer:
        answer = await self._llm._ask(body)
        self.usage += answer.cost
        return answer


def _said(error: openai.APIStatusError) -> str:
    """Return what the endpoint wrote, shortened; it never holds our key unless they echo it."""
    return str(error.message)[:300]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__

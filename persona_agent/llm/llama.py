"""The llama.cpp engine inside this process, through xllamacpp: tokens in, tokens out.

Everything foreign stays in this file: what it returns is ours, what it raises is a BackendError.
"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from persona_agent.errors import BackendError, ContextTooLong
from persona_agent.types import Json, Message, Sampling

INSTALL = 'pip install "persona-agent-framework[local]"'
HTTP_TIMEOUT_S = 60.0
TOKENISATIONS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine wrote after a prompt.

    `steps` holds, for each token written, the log-probabilities of the likeliest tokens and of
    the one written, by token id; empty unless asked for. They are the model's own, before any
    sampling setting or grammar.
    """

    text: str
    finish: Literal["stop", "length"]
    written: int
    cached: int
    steps: tuple[Mapping[int, float], ...] = ()


class Llama:
    """A loaded GGUF model with `slots` independent prompt caches of `context_tokens` each.

    Safe to use from many threads; requests to one slot queue up. Nothing is ever cut off or
    shifted out of the context. The engine also listens on a random loopback port (`base_url`),
    which asks for `api_key`, a secret made at start.
    """

    def __init__(self, path: Path, *, threads: int, slots: int, context_tokens: int) -> None:
        check_gguf(path)
        self.api_key = secrets.token_urlsafe(24)
        self.slots = slots
        self.context_tokens = context_tokens
        self._server = _start(path, threads, slots, context_tokens, self.api_key)
        self.base_url = f"{self._server.listening_address}/v1"
        address = urlsplit(self.base_url)
        self._http = http.client.HTTPConnection(
            address.hostname or "127.0.0.1", address.port, timeout=HTTP_TIMEOUT_S
        )
        self._http_lock = threading.Lock()
        self._tokenise = lru_cache(TOKENISATIONS_KEPT)(self._tokenise_now)
        # One token, to know that the engine's own loop has begun: closing it before hangs for ever.
        once = Sampling(max_tokens=1)
        self.complete(self.tokenise("a", start=True, special=False), slot=0, sampling=once)

    @property
    def closed(self) -> bool:
        """Whether the model is gone."""
        return self._server is None

    def close(self) -> None:
        """Free the model. Nothing may be under way, and nothing may follow."""
        self._http.close()
        self._tokenise.cache_clear()
        self._server = None

    def tokenise(self, text: str, *, start: bool, special: bool) -> tuple[int, ...]:
        """Return the tokens of `text`.

        `start` adds what the model wants at the beginning of a prompt, such as BOS. `special`
        reads the names of control tokens in the text as these tokens; else they are just text.
        """
        return self._tokenise(text, start, special)

    def apply_template(self, messages: Sequence[Message]) -> str:
        """Return the chat as the model was trained to see it, ready for the assistant's turn."""
        body = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
        return str(self._post("/apply-template", body)["prompt"])

    def complete(
        self,
        tokens: Sequence[int],
        *,
        slot: int,
        sampling: Sampling,
        schema: Mapping[str, Json] | None = None,
        reuse: bool = True,
    ) -> Completion:
        """Return what the model writes after `tokens`, on that slot.

        `reuse` false reads the whole prompt again even if the slot holds a part of it.
        """
        body: dict[str, Json] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if schema is not None:
            body["json_schema"] = dict(schema)
        return self._run(tokens, slot, reuse, body)

    def force(
        self, tokens: Sequence[int], path: Sequence[int], *, slot: int, top: int, reuse: bool = True
    ) -> Completion:
        """Return the completion whose tokens are `path`, with log-probabilities at each step.

        Each step also holds the `top` likeliest tokens.
        """
        body: dict[str, Json] = {
            "max_tokens": len(path),
            "temperature": 0.0,
            "n_probs": top,
            "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in path),
        }
        done = self._run(tokens, slot, reuse, body)
        if len(done.steps) != len(path) or any(
            token not in step for token, step in zip(path, done.steps, strict=True)
        ):
            raise BackendError(
                f"llama.cpp did not follow the forced tokens {list(path)!r}: it gave "
                f"{len(done.steps)} steps; report this with the model's name"
            )
        return done

    def _run(
        self, tokens: Sequence[int], slot: int, reuse: bool, body: dict[str, Json]
    ) -> Completion:
        if self._server is None:
            raise BackendError("the model is closed; open it again with open_llm")
        body |= {
            "prompt": list(tokens),
            "id_slot": slot,
            "cache_prompt": reuse,
            "top_k": 0,  # llama.cpp's defaults would cut the distribution behind our back
            "min_p": 0.0,
        }
        answer = self._server.handle_completions(body)
        if "error" in answer:
            raise _translated(answer["error"])
        choice = answer["choices"][0]
        steps = [_step(one) for one in (choice["logprobs"] or {}).get("content", [])]
        return Completion(
            text=choice["text"],
            finish="length" if choice["finish_reason"] == "length" else "stop",
            written=answer["usage"]["completion_tokens"],
            cached=answer["timings"]["cache_n"],
            steps=tuple(steps),
        )

    def _tokenise_now(self, text: str, start: bool, special: bool) -> tuple[int, ...]:
        body: dict[str, Json] = {"content": text, "add_special": start, "parse_special": special}
        return tuple(self._post("/tokenize", body)["tokens"])

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        # xllamacpp tokenises only over its own loopback HTTP: 0.3 ms on a connection kept open.
        if self._server is None:
            raise BackendError("the model is closed; open it again with open_llm")
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.api_key}"}
        data = json.dumps(body).encode()
        with self._http_lock:
            try:
                status, raw = self._exchange(path, data, headers)
            except (http.client.HTTPException, ConnectionError):
                self._http.close()  # the server closes connections that idle: connect again
                try:
                    status, raw = self._exchange(path, data, headers)
                except (http.client.HTTPException, OSError) as error:
                    self._http.close()
                    raise BackendError(f"llama.cpp does not answer {path}: {error!r}") from error
        answer: dict[str, Any] = json.loads(raw)  # Any: JSON
        if status != 200:
            raise _translated(answer.get("error", {"message": f"status {status}"}))
        return answer

    def _exchange(self, path: str, data: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self._http.request("POST", path, data, headers)
        response = self._http.getresponse()
        return response.status, response.read()


def check_gguf(path: Path) -> None:
    """Raise BackendError unless `path` is a file that begins like a GGUF model."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BackendError(
            f"the model file {str(path)!r} cannot be read: {reason}; give the path of a GGUF file"
        ) from error
    if magic != b"GGUF":
        raise BackendError(
            f"{str(path)!r} is not a GGUF model: it begins with {magic!r} instead of b'GGUF'; "
            "it may be an incomplete download or another format"
        )


def _start(path: Path, threads: int, slots: int, context_tokens: int, key: str) -> Any:
    # Any: xllamacpp has no type information.
    try:
        import xllamacpp
    except ImportError as error:
        raise BackendError(
            f"the local model needs xllamacpp, which is not installed: {INSTALL}"
        ) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.name}  # else every answer tells where the file lies
    params.n_ctx = context_tokens * slots
    params.n_parallel = slots
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
        # Threads that spin while they wait starve each other: with another process on one of two
        # cores, two threads wrote 3.7 tokens a second spinning, 27.5 sleeping, and one wrote 67.
        cpu.poll = 0
    params.api_keys = [key]
    params.cors_origins = ""  # web pages have no business here
    params.n_threads_http = 4
    params.verbosity = -1
    params.warmup = False
    params.fit_params = False  # never shrink what we asked for
    params.ctx_shift = False  # never drop the beginning of a prompt
    # Each slot owns its context, so that no request can be starved or evicted by another; and we
    # choose slots ourselves, so the engine's second cache (up to 8 GiB) would only cost memory.
    params.kv_unified = False
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # A score should not depend on what the cache happens to hold. With flash attention and half
    # precision, the default, every score moved: by .036 on average, by .12 at most. This way one
    # in a hundred does, for 15% more time to read a prompt and twice the memory for the cache.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise BackendError(
            f"llama.cpp could not load {str(path)!r} ({error}); the file may be incomplete, of an "
            f"unknown architecture, or too large for this machine with {slots} slots of "
            f"{context_tokens} tokens"
        ) from error


def _step(one: Mapping[str, Any]) -> dict[int, float]:  # Any: JSON
    step = {entry["id"]: float(entry["logprob"]) for entry in one["top_logprobs"]}
    step[one["id"]] = float(one["logprob"])
    return step


def _translated(error: Mapping[str, Any]) -> BackendError:  # Any: JSON
    if error.get("type") == "exceed_context_size_error":
        return ContextTooLong(
            f"the prompt has {error['n_prompt_tokens']} tokens; the context holds {error['n_ctx']}"
        )
    return BackendError(f"llama.cpp refused the request: {error.get('message', error)}")

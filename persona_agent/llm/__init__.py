"""Language models: embedded, behind an endpoint, and doubles for tests."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from persona_agent.llm.fake import FakeLLM
from persona_agent.llm.local import LocalLLM, embedded_model
from persona_agent.llm.replay import RecordingLLM, ReplayLLM
from persona_agent.ports import LLM

__all__ = ["FakeLLM", "LocalLLM", "RecordingLLM", "ReplayLLM", "open_llm", "servable"]

ENTRY_POINTS = "persona_agent.llm"
NAMES = ("local", "gguf:PATH", "openai:MODEL", "vllm:MODEL")


def open_llm(
    spec: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout_s: float | None = None,
    concurrency: int | None = None,
    vllm: bool | None = None,
    threads: int | None = None,
    slots: int | None = None,
    context_tokens: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> LLM:
    """Return the model that `spec` names.

    - `local`: the embedded SmolLM2, on this machine;
    - `gguf:PATH`: another GGUF model, on this machine;
    - `openai:MODEL`: behind any OpenAI-compatible endpoint; `concurrency` requests at once, and
      `vllm` says whether it is a vLLM server, which else it is asked;
    - `vllm:MODEL`: run by vLLM in this process; MODEL is a folder, a name that vLLM can load, a
      GGUF file, or `local` for the embedded SmolLM2 (the last two are converted once);
    - `NAME` or `NAME:REST`: what a package offers in the entry-point group `persona_agent.llm`,
      called with REST and the options that are given.

    An option that is None takes the backend's default. `environ` is where an endpoint's address
    and key are looked up when they are not given: PERSONA_AGENT_LLM_BASE_URL, OPENAI_BASE_URL,
    PERSONA_AGENT_LLM_API_KEY, OPENAI_API_KEY; without it, nowhere.

    Raises ValueError for an unknown name, listing the known, and for an option that the backend
    does not have; BackendError if the model cannot be opened.
    """
    name, _, rest = spec.partition(":")
    given: dict[str, object] = {
        "base_url": base_url,
        "api_key": api_key,
        "timeout_s": timeout_s,
        "concurrency": concurrency,
        "vllm": vllm,
        "threads": threads,
        "slots": slots,
        "context_tokens": context_tokens,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if name in ("local", "gguf"):
        _allow(spec, options, ("threads", "slots", "context_tokens"))
        if name == "local" and rest:
            raise ValueError(f"{spec!r}: local takes nothing after it; did you mean gguf:{rest}?")
        if name == "gguf" and not rest:
            raise ValueError(f"{spec!r} names no file; write gguf:PATH")
        return LocalLLM(
            rest or None,
            threads=threads,
            slots=4 if slots is None else slots,
            context_tokens=4096 if context_tokens is None else context_tokens,
        )
    if name == "openai":
        _allow(spec, options, ("base_url", "api_key", "timeout_s", "concurrency", "vllm"))
        if not rest:
            raise ValueError(f"{spec!r} names no model; write openai:MODEL")
        from persona_agent.llm.openai import OpenAILLM  # heavy: the SDK takes half a second

        return OpenAILLM(
            rest,
            base_url=base_url or _look_up(environ or {}, "BASE_URL"),
            api_key=api_key or _look_up(environ or {}, "API_KEY"),
            timeout_s=60.0 if timeout_s is None else timeout_s,
            concurrency=8 if concurrency is None else concurrency,
            vllm=vllm,
        )
    if name == "vllm":
        _allow(spec, options, ("context_tokens", "timeout_s"))
        if not rest:
            raise ValueError(f"{spec!r} names no model; write vllm:MODEL")
        from persona_agent.llm.vllm import VLLM  # it needs no vLLM to import, but much else

        return VLLM(
            servable(rest),
            context_tokens=context_tokens,
            stall_s=300.0 if timeout_s is None else timeout_s,
        )
    return _plugin(spec, name, rest, options)


def servable(model: str) -> str:
    """Return what vLLM is given to load: GGUF files and `local` are converted first, once."""
    if model != "local" and not model.endswith(".gguf"):
        return model
    from persona_agent.llm.weights import folder_of

    return str(folder_of(embedded_model() if model == "local" else Path(model)))


def _look_up(environ: Mapping[str, str], name: str) -> str | None:
    keys = (f"PERSONA_AGENT_LLM_{name}", f"OPENAI_{name}")
    return next((environ[key] for key in keys if environ.get(key)), None)


def _plugin(spec: str, name: str, rest: str, options: Mapping[str, object]) -> LLM:
    offered = entry_points(group=ENTRY_POINTS)
    if name not in offered.names:
        known = ", ".join([*NAMES, *sorted(offered.names)])
        raise ValueError(f"there is no model backend {name!r} (in {spec!r}); known: {known}")
    make = offered[name].load()
    try:
        llm: LLM = make(rest, **options)
    except TypeError as error:
        raise ValueError(
            f"the backend {name!r} does not take the options {sorted(options)}: {error}"
        ) from error
    return llm


def _allow(spec: str, options: Mapping[str, object], known: tuple[str, ...]) -> None:
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"{spec!r} has no option {', '.join(unknown)}; it has {', '.join(known)}")

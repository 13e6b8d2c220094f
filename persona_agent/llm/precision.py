"""In which precision a processor should run a model: a look at what it has instructions for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["bfloat16", "float32"]

CPU_INFO = Path("/proc/cpuinfo")
# As Linux names them: x86 (AVX-512 and AMX), then Arm.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_precision(cpu_info: Path = CPU_INFO) -> Precision:
    """Return bfloat16 where the processor multiplies in it, else float32.

    Without such instructions a product in bfloat16 is emulated, and took 130 times as long as
    one in float32 on an AVX2 machine. A system that does not tell (there is no `cpu_info`) gets
    float32, which is right everywhere.
    """
    if not cpu_info.is_file():
        return "float32"
    for line in cpu_info.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return "bfloat16" if BFLOAT16_FLAGS & set(value.split()) else "float32"
    return "float32"

"""The precision follows what the processor has instructions for."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona_agent.llm.precision import cpu_precision


@pytest.mark.parametrize(
    ("line", "precision"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512_bf16", "bfloat16"),
        ("flags\t\t: fpu amx_bf16", "bfloat16"),
        ("Features\t: fp asimd bf16", "bfloat16"),
        ("flags\t\t: fpu sse2 avx2", "float32"),
        ("model name\t: avx512_bf16 of a kind", "float32"),
    ],
)
def test_bfloat16_is_chosen_where_it_is_multiplied(
    tmp_path: Path, line: str, precision: str
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\n{line}\n")
    assert cpu_precision(told) == precision


def test_a_system_that_does_not_tell_gets_what_is_right_everywhere(tmp_path: Path) -> None:
    assert cpu_precision(tmp_path / "none") == "float32"

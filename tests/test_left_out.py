"""What a machine cannot run is named, with the reason, and fails where everything is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "faiss":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
"""
TESTS = """
import pytest
@pytest.mark.real("faiss")
def test_needs_faiss(): pass
def test_needs_nothing(): pass
"""


def run(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(conftest, encoding="utf-8")
    (folder / "hide.py").write_text(HIDE)
    (folder / "test_parts.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = real(part): needs a real part\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "hide", "-p", "no:cacheprovider", "-q"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PERSONA_AGENT_REQUIRE_REAL": "", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_a_missing_part_is_named_and_fails_only_where_it_is_required(
    tmp_path: Path, required: str, code: int
) -> None:
    done = run(tmp_path, PERSONA_AGENT_REQUIRE_REAL=required)
    assert done.returncode == code, done.stdout
    assert "real part 'faiss' needs faiss (pip install faiss-cpu)" in done.stdout
    assert ("left out: 1 tests:" in done.stdout) == (not required)
    assert "1 passed" in done.stdout

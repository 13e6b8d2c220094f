"""The pages for newcomers run as they stand, and the site builds without a broken link."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.upstream import Upstream, says
from tests.snippets import NOTE, blocks, run_commands, run_python

ROOT = Path(__file__).parent.parent
PAGES = ("index", "tutorial")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give an endpoint in the place of the embedded model."""
    made = Upstream()
    made.answer = says("4")
    yield made
    made.close()


@pytest.mark.real("faiss")
@pytest.mark.real("embedder")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_its_first_block_to_its_last(
    page: str,
    tmp_path: Path,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONA_AGENT_LLM", "openai:stub")
    monkeypatch.setenv("PERSONA_AGENT_BASE_URL", upstream.base_url)
    found = blocks(ROOT / "docs" / f"{page}.md")
    assert all(NOTE.fullmatch(one.note) for one in found if one.note)
    for block in found:
        if block.kind == "python":
            run_python(block, tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
        elif block.kind == "console":
            run_commands(block)
            assert capsys.readouterr().out


@pytest.mark.real("mkdocs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "wrap" in (tmp_path / "api" / "clients.html").read_text(encoding="utf-8")
    made = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "https://fonts." not in made

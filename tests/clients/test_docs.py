"""The examples for other people's libraries run as docs/clients.md shows them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.clients.upstream import Upstream, says
from tests.snippets import NOTE, Block, blocks, cases, run_python

ROOT = Path(__file__).parents[2]
BLOCKS = blocks(ROOT / "docs" / "clients.md")
OFFLINE = {
    "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody is there: what would leave this machine fails
    "NO_PROXY": "127.0.0.1,localhost",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
}


def is_for_server(block: Block) -> bool:
    """Return whether an example names the user to a server; see `test_server`."""
    return "X-Persona-User" in block.body or "x-litellm-end-user-id" in block.body


@pytest.mark.parametrize(
    "block", cases([one for one in BLOCKS if not is_for_server(one)], "python")
)
def test_the_example_runs(block: Block, tmp_path: Path, upstream: Upstream) -> None:
    upstream.answer = says("Try a short book by Calvino.")
    endpoint = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k", **OFFLINE}
    plain = {"PYTHONPATH": str(ROOT)}
    run_python(block, tmp_path, {**os.environ, **plain, **endpoint}, strict=False)
    assert upstream.bodies


@pytest.mark.real("embedder")
def test_the_readmes_five_lines_make_a_reply_personal(tmp_path: Path, upstream: Upstream) -> None:
    (block,) = [one for one in blocks(ROOT / "README.md") if "wrap(OpenAI()" in one.body]
    assert len([line for line in block.body.splitlines() if line]) <= 5
    upstream.answer = says("Try a short book by Calvino.")
    endpoint = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k", **OFFLINE}
    plain = {"PYTHONPATH": str(ROOT)}
    run_python(block, tmp_path, {**os.environ, **plain, **endpoint}, strict=False)
    first, second = map(json.dumps, upstream.bodies)
    assert "<memories>" not in first
    assert "I only read short books." in second.partition("<memories>")[2]


def test_what_is_not_run_says_why() -> None:
    assert all(NOTE.fullmatch(one.note) for one in BLOCKS if one.note)

"""What the documentation says of the bridge is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "recommend.md"


def test_the_example_prints_what_it_says() -> None:
    text = DOCS.read_text(encoding="utf-8").split("## In the agent")[1]
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (printed, "")


def test_all_names_of_the_other_examples_are_there() -> None:
    from persona_agent.bridge.rerank import fused, rerank
    from persona_agent.bridge.tastes import taste_proposer
    from persona_agent.propose import miner

    assert all(map(callable, (fused, rerank, taste_proposer, miner)))

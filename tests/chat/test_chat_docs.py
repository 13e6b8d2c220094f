"""What the documentation says of the conversation is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from persona_agent.chat.deciding import Policy

DOCS = Path(__file__).parents[2] / "docs" / "chat.md"


def test_the_example_prints_what_it_says(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == (printed, "")


def test_the_figures_of_the_policy_are_those_in_use() -> None:
    text = DOCS.read_text(encoding="utf-8")
    policy = Policy()
    assert f"with chance {policy.worth:g}".replace("0.", ".") in text
    assert f"tells {policy.least_bits:g} bits".replace("0.", ".") in text
    assert (policy.show, policy.patience, policy.remembered) == (3, 4, 0.2)

"""What the documentation says of the bridge is true."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "recommend.md"


def test_the_example_prints_what_it_says() -> None:
    text = DOCS.read_text(encoding="utf-8").split("## In the agent")[1]
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (printed, "")


def test_what_the_other_examples_import_is_there() -> None:
    """They need a trained model and are not run; their names are looked up."""
    text = DOCS.read_text(encoding="utf-8").split("## In the agent")[1]
    imports = re.findall(r"^from (persona_agent[\w.]*) import (.+)$", text, re.MULTILINE)
    assert len(imports) > 10
    for module, names in imports:
        for name in names.split(", "):
            assert hasattr(import_module(module), name), (module, name)

"""The recommenders cost nothing until they are asked for, and say what they need."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HIDE = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "scipy" else found(name)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_example_of_the_package_is_true() -> None:
    done = python(
        "from persona_agent.recommend.data import Interactions\n"
        "from persona_agent.recommend.ease import EASE\n"
        'data = Interactions.of(["ann", "ann", "bob"], ["tea", "jam", "tea"])\n'
        'print(EASE(l2=1).fit(data).recommend([["jam"]], k=1).lists())'
    )
    assert (done.stdout, done.stderr) == ("[['tea']]\n", "")


def test_without_its_parts_it_says_how_to_get_them() -> None:
    done = python(HIDE + "import persona_agent.recommend")
    assert done.returncode == 1
    assert "the recommenders need scipy, which is not installed" in done.stderr
    assert "persona-agent-framework[recommend]" in done.stderr


def test_the_models_in_closed_form_need_no_torch_and_no_pandas() -> None:
    done = python(
        "import sys\n"
        "import persona_agent.recommend.evaluate, persona_agent.recommend.readers\n"
        "import persona_agent.recommend.ease, persona_agent.recommend.knn\n"
        "print(sorted({'torch', 'pandas', 'optuna', 'pyarrow'} & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_example_of_the_documentation_prints_what_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recommend.md").read_text(encoding="utf-8")
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    done = python(code)
    assert (done.stdout, done.stderr) == (printed, "")

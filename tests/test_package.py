"""The package as it is shipped: what the wheel holds, what importing it costs, what it offers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import persona_agent

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "persona_agent": "persona_agent",
    "memory": "persona_agent/memory",
    "prompts": "persona_agent/prompts",
    "eval": "persona_agent/eval",
}
LINKS = ("memory", "prompts", "eval")
HEAVY = (
    "torch",
    "faiss",
    "sqlalchemy",
    "openai",
    "pydantic",
    "onnxruntime",
    "xllamacpp",
    "rich",
    "scipy",
    "pandas",
    "pyarrow",
)
NAMES = [
    "AlignOptions",
    "Alignment",
    "Answer",
    "EpisodicMemory",
    "FakeLLM",
    "Interaction",
    "LocalLLM",
    "Persona",
    "PersonaAgent",
    "PersonaAgentError",
    "PersonaLine",
    "Ports",
    "ReplayLLM",
    "Scope",
    "Situation",
    "Store",
    "Task",
    "open_llm",
    "run",
    "run_many",
    "wrap",
]


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> set[str]:
    """Return the files of the four folders, by the names they are installed under."""
    found = set()
    for folder, home in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            linked = folder == "persona_agent" and inner.parts[0] in LINKS
            if path.is_file() and "__pycache__" not in path.parts and not linked:
                found.add(f"{home}/{inner.as_posix()}")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a clean copy of the tree."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "out", "__pycache__")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    try:
        new_enough = int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        new_enough = False
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(copy.parent)]
    isolation = ["--no-isolation"] if new_enough else []  # else it installs a newer setuptools
    done = subprocess.run(
        [*command, *isolation, str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = copy.parent.glob("*.whl")
    return built


def test_the_wheel_holds_the_modules_and_data_of_the_source_tree_and_nothing_else(
    wheel: Path,
) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == sources()
    assert {
        "persona_agent/py.typed",
        "persona_agent/prompts/ask.txt",
        "persona_agent/serve/page/index.html",
    } <= names


def test_the_wheel_installs_and_runs_away_from_the_source(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", target, wheel], check=True, capture_output=True)
    code = """
import sys
sys.path = [sys.argv[1]] + [p for p in sys.path if p and "__editable__" not in p]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
import persona_agent
assert persona_agent.__file__.startswith(sys.argv[1]), persona_agent.__file__
from persona_agent import FakeLLM, PersonaAgent
with PersonaAgent.open(":memory:", llm=FakeLLM(lambda r: "Tea."), embedder="hash") as agent:
    agent.add("I drink tea.", user_id="alice")
    print(agent.ask("What do I drink?", user_id="alice"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Tea.\n", "")


def test_importing_the_package_is_quick_and_loads_nothing_heavy() -> None:
    code = """
import json, sys, time
begun = time.perf_counter()
import persona_agent
print(json.dumps([time.perf_counter() - begun, sorted({n.split(".")[0] for n in sys.modules})]))
"""
    runs = [
        json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
        for _ in range(5)
    ]
    assert min(seconds for seconds, _ in runs) < 0.5
    assert [name for name in runs[0][1] if name in HEAVY] == []


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert persona_agent.__all__ == NAMES == sorted(NAMES)
    assert dir(persona_agent) == NAMES
    for name in NAMES:
        assert getattr(persona_agent, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        getattr(persona_agent, "No" + "pe")


def test_the_core_is_light() -> None:
    found = project()["project"]
    assert isinstance(found, dict)
    assert len(found["dependencies"]) <= 10
    assert not any(name.startswith(("torch", "faiss", "vllm")) for name in found["dependencies"])


def test_every_package_is_listed_for_the_builder() -> None:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    packages = {name.rsplit("/", 1)[0] for name in sources() if name.endswith("/__init__.py")}
    assert {name.replace(".", "/") for name in tool["setuptools"]["packages"]} == packages

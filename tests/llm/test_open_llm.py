from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm import open_llm
from persona_agent.llm.openai import OpenAILLM
from persona_agent.types import Message, ModelRequest


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'gpt'.*known: local, gguf:PATH, openai:MODEL"):
        open_llm("gpt:4")


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        ("local", {"api_key": "k"}, "no option api_key"),
        ("local", {"base_url": "u", "timeout_s": 1.0}, "no option base_url, timeout_s"),
        ("openai:m", {"threads": 2}, "no option threads"),
        ("gguf:", {}, "write gguf:PATH"),
        ("openai", {}, "write openai:MODEL"),
        ("local:x.gguf", {}, "did you mean gguf:x.gguf"),
    ],
)
def test_what_a_backend_does_not_have_is_refused(
    spec: str, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        open_llm(spec, **options)


def test_gguf_opens_a_path(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="No such file"):
        open_llm(f"gguf:{tmp_path}/a:b.gguf")


def test_address_and_key_come_from_arguments_then_our_names_then_the_usual(
    endpoint: Callable[..., Any],
) -> None:
    message = {"role": "assistant", "content": "x"}
    server = endpoint(lambda _: (200, {"choices": [{"message": message}]}))
    environ = {
        "PERSONA_AGENT_LLM_BASE_URL": server.base_url,
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "OPENAI_API_KEY": "usual",
    }
    for key in (None, "given"):
        llm = open_llm("openai:org/m:7b", api_key=key, environ=environ)
        assert isinstance(llm, OpenAILLM)
        with llm:
            llm.complete([ModelRequest((Message("user", "hi"),))])
    assert server.keys == ["Bearer usual", "Bearer given"]
    assert server.seen[0]["model"] == "org/m:7b"


def test_the_package_imports_no_engine_and_no_sdk() -> None:
    code = (
        "import sys, persona_agent.llm; "
        "print([m for m in ('openai', 'xllamacpp', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

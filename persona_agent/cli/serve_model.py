"""The command that serves a model with vLLM, or says how."""

from __future__ import annotations

import os
import subprocess

import click

from persona_agent.cli.settings import Settings
from persona_agent.errors import PersonaAgentError
from persona_agent.llm import servable
from persona_agent.llm.serving import Serving, serving, this_machine


@click.command("serve-model")
@click.argument("model", default="local")
@click.option("--start", is_flag=True, help="Run the command instead of printing it.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--name", help="What the model is called by those who ask; by default MODEL.")
@click.option(
    "--adapter", "adapters", multiple=True, metavar="NAME=FOLDER", help="A LoRA to serve."
)
@click.option("--later", is_flag=True, help="Let adapters be loaded and unloaded while it runs.")
@click.option(
    "--max-rank",
    type=click.IntRange(8, 512),
    default=16,
    show_default=True,
    help="The highest rank of an adapter: 8, 16, 32, 64, 128, 256, 320 or 512.",
)
@click.option("--context-tokens", type=click.IntRange(16), help="Bound of prompt and answer.")
@click.option("--tool-parser", help="How the model calls tools: hermes, llama3_json, … of vLLM's.")
@click.pass_obj
def serve_model(
    settings: Settings,
    model: str,
    start: bool,
    host: str,
    port: int,
    name: str | None,
    adapters: tuple[str, ...],
    later: bool,
    max_rank: int,
    context_tokens: int | None,
    tool_parser: str | None,
) -> None:
    """Print the vLLM command that serves MODEL on this machine; with --start, run it.

    MODEL is a folder, a name that vLLM can load, a GGUF file, or "local" for the embedded model;
    the last two are converted first, once. VLLM_API_KEY is the key that clients must give.
    """
    found = serving(
        servable(model),
        this_machine(),
        host=host,
        port=port,
        name=name or model,
        adapters=dict(map(_pair, adapters)),
        later=later,
        max_rank=max_rank,
        context_tokens=context_tokens,
        tool_parser=tool_parser,
    )
    settings.show(found)
    if start:
        _run(found)


def _pair(text: str) -> tuple[str, str]:
    name, found, folder = text.partition("=")
    if not (name and found and folder):
        raise click.UsageError(f"--adapter is {text!r}; write NAME=FOLDER")
    return name, folder


def _run(found: Serving) -> None:
    """Run the server until it ends or is interrupted; it gets the interrupt, too."""
    server = subprocess.Popen(found.command, env=os.environ | found.environment)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.wait(30)  # vLLM stops its engine first
        raise
    finally:
        server.kill()
    if code:
        raise PersonaAgentError(f"vLLM ended with code {code}; its log above says why")

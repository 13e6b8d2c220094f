"""The command line: the same verbs as the Python API, with exit codes and --json."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from persona_agent.cli.align import align, ask
from persona_agent.cli.bench import bench
from persona_agent.cli.chat import chat
from persona_agent.cli.demo import demo
from persona_agent.cli.doctor import doctor
from persona_agent.cli.evaluate import evaluate
from persona_agent.cli.mcp import mcp
from persona_agent.cli.memory import add, search, users
from persona_agent.cli.persona import persona
from persona_agent.cli.plan import plan
from persona_agent.cli.reindex import reindex
from persona_agent.cli.serve import keys, serve
from persona_agent.cli.serve_model import serve_model
from persona_agent.cli.settings import Settings
from persona_agent.cli.store import COMMANDS as STORE_COMMANDS
from persona_agent.cli.summary import summary
from persona_agent.cli.train import adapters, train
from persona_agent.errors import PersonaAgentError
from persona_agent.memory.embed import EMBEDDERS

EXIT_CODES = """
Exit codes: 0 done; 1 it could not be done, and the message on standard error says why and the way
out (as JSON after --json); 2 the command line itself is wrong; 130 interrupted; 143 terminated.
"""


@click.group(epilog=EXIT_CODES, context_settings={"auto_envvar_prefix": "PERSONA_AGENT"})
@click.version_option(package_name="persona-agent-framework")
@click.option("--db", default="persona.db", show_default=True, help="Database file or URL.")
@click.option(
    "--llm",
    default="local",
    show_default=True,
    help="Model: local, gguf:PATH, vllm:MODEL, openai:MODEL.",
)
@click.option("--embedder", default="minilm", show_default=True, help=f"Embedder: {EMBEDDERS}.")
@click.option("--base-url", help="Address of the model's endpoint, for openai:MODEL.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the embedded model.")
@click.option("--tenant", default="default", show_default=True, help="Whose users these are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
@click.pass_context
def cli(context: click.Context, /, **given: object) -> None:
    """An agent that knows each of its users: remember, align, answer.

    Every option can be set in the environment, too: PERSONA_AGENT_DB, PERSONA_AGENT_LLM, …
    The endpoint's key is read from PERSONA_AGENT_LLM_API_KEY or OPENAI_API_KEY only.
    """
    context.obj = Settings.of(given)


for command in (
    demo,
    add,
    search,
    users,
    ask,
    chat,
    align,
    persona,
    summary,
    doctor,
    mcp,
    bench,
    evaluate,
    plan,
    reindex,
    serve,
    keys,
    serve_model,
    train,
    adapters,
    *STORE_COMMANDS,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if arguments is None:  # a process of its own: whoever ends it ends what it started, too
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(given, prog_name="persona-agent", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was acknowledged is stored", err=True)
        sys.exit(130)
    except (PersonaAgentError, ValueError, KeyError) as error:
        _tell(error, "--json" in given)
        sys.exit(1)


def _tell(error: Exception, as_json: bool) -> None:
    # str() of a KeyError is the repr of its message
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if as_json:
        found = {"error": {"type": type(error).__name__, "message": message}}
        click.echo(json.dumps(found, ensure_ascii=False), err=True)  # standard output is the result
    else:
        shown = Text.assemble(("error:", "bold red"), f" {message}")
        Console(stderr=True).print(shown, soft_wrap=True, highlight=False)

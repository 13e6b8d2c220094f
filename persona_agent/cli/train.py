"""Commands on adapters: train them, list them, merge one into a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from persona_agent.agent import PersonaAgent
from persona_agent.cli.settings import Command, Settings, progress_bars
from persona_agent.distil import Distilled, TraceOptions
from persona_agent.errors import PersonaAgentError
from persona_agent.llm.local import embedded_model
from persona_agent.llm.served_adapters import ServedAdapters
from persona_agent.memory.adapter_files import AdapterFiles, adapters_path
from persona_agent.memory.store import Store
from persona_agent.ports import Forgetter
from persona_agent.program import Result
from persona_agent.train.hosting import Hosted
from persona_agent.train.options import METHODS, TrainOptions
from persona_agent.train.traces import by_user

KEY = "VLLM_API_KEY"
FOLDER = click.option(
    "--adapters",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of adapters.  [default: beside the database's file]",
)
SERVED = click.option(
    "--served",
    metavar="URL",
    help="A vLLM server that has adapters loaded, started by serve-model --later.",
)


def tracing(command: Command) -> Command:
    """Add the options of the thoughts that the method `traces` learns."""
    default = TraceOptions()
    cases = click.option(
        "--cases",
        type=click.IntRange(1),
        default=default.cases,
        show_default=True,
        help="Of traces: the latest outcomes of a user that the model thinks about.",
    )
    samples = click.option(
        "--samples",
        type=click.IntRange(1),
        default=default.samples,
        show_default=True,
        help="Of traces: thoughts about each.",
    )
    hint = click.option(
        "--hint",
        is_flag=True,
        help="Of traces: show the outcome of those that no thought led to, and think once more.",
    )
    return cases(samples(hint(command)))


@click.command()
@click.argument("users", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Train an adapter of every user.")
@click.option("--cohort", is_flag=True, help="Train one adapter on all USERS, or on everybody.")
@click.option("--method", type=click.Choice(METHODS), default="tft", show_default=True)
@click.option("--base", default="local", show_default=True, help="A folder, a GGUF file, or local.")
@click.option("--start", metavar="NAME", help="An adapter to begin with, such as a cohort's.")
@click.option("--rank", type=click.IntRange(1), default=8, show_default=True)
@click.option("--alpha", type=click.IntRange(1), default=8, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="[default: the method's]")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--window", type=click.IntRange(1), default=16, show_default=True)
@click.option("--held-out", type=click.IntRange(0), default=0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@tracing
@click.option(
    "--thought-tokens",
    type=click.IntRange(8),
    default=TraceOptions().budget,
    show_default=True,
    help="Of traces: what a thought may take.",
)
@FOLDER
@SERVED
@click.pass_obj
def train(
    settings: Settings,
    /,
    users: tuple[str, ...],
    everybody: bool,
    cohort: bool,
    base: str,
    start: str | None,
    cases: int,
    samples: int,
    hint: bool,
    thought_tokens: int,
    folder: Path | None,
    served: str | None,
    **recipe: Any,  # Any: the fields of TrainOptions, which checks them
) -> None:
    """Train LoRA adapters on what USERS did; the latest --held-out outcomes judge them.

    What was trained on the same data before is not trained again; what was stopped goes on. With
    --method traces the model (--llm, which should be the base) first thinks about what users did.
    """
    if (everybody and users) or not (everybody or cohort or users):
        raise click.UsageError("name users, or give --all or --cohort")
    options = TrainOptions(**recipe)
    thinks = options.method == "traces" and not cohort
    agent = PersonaAgent.open(
        settings.db,
        llm=settings.model() if thinks else None,
        embedder="hash",
        tenant=settings.tenant,
        adapters=folder,
    )
    found: Mapping[str, Result[Distilled]] = {}
    with agent, progress_bars() as bars:
        names = list(users) or agent.users()
        bar = bars.add_task("loading the model", total=None)
        done: set[str] = set()

        def tell(name: str, step: int, steps: int) -> None:
            done.add(name)
            count = 1 if cohort else len(names)
            text = f"training {len(done)} of {count}"
            bars.update(bar, total=steps, completed=step, description=text)

        if thinks:
            how = TraceOptions(
                cases=cases, samples=samples, hint=hint, budget=thought_tokens, seed=options.seed
            )
            bars.update(bar, description="thinking")
            thoughts = agent.distil(names, options=how, held_out=options.held_out)
            found = dict(zip(names, thoughts, strict=True))
        results = agent.train(
            names,
            options=options,
            base=base,
            cohort=cohort,
            start=start,
            traces=by_user(found),
            tell=tell,
        )
        loaded = 0
        if served is not None:
            files = files_of(agent.memory.store, settings, folder)
            loaded = hosted(agent.memory.store, settings, served).sync(files, settings.tenant)
    shown = [None] if cohort else names
    rows = [
        {"user": name, "learned": one.value, "error": one.reason or None}
        for name, one in zip(shown, results, strict=True)
    ]
    lines = [f"{user}: {one.value if one.ok else one.reason}" for user, one in found.items()]
    lines += [
        str(one.value) if one.ok else f"{name or 'the cohort'}: {one.reason}"
        for name, one in zip(shown, results, strict=True)
    ]
    if served is not None:
        lines.append(f"{loaded} adapters loaded by {served}")
    told = {user: str(one.value) for user, one in found.items() if one.ok}
    settings.show({"results": rows, "loaded": loaded, "traces": told}, "\n".join(lines))
    if failed := sum(not one.ok for one in results):
        raise PersonaAgentError(f"{failed} of {len(results)} adapters could not be trained")


@click.group("adapters")
def adapters() -> None:
    """Adapters that were trained: which there are, and one as a GGUF file."""


@adapters.command("list")
@click.option("--user", help="Those of one user.")
@click.pass_obj
def adapters_list(settings: Settings, user: str | None) -> None:
    """List the adapters there are, newest first."""
    with PersonaAgent.open(settings.db, llm=None, embedder="hash", tenant=settings.tenant) as agent:
        found = agent.adapters(user)
    settings.show(found, "\n".join(map(str, found)) or "no adapters")


@adapters.command("merge")
@click.argument("name")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--base", default="local", show_default=True, help="The base's GGUF file, or local.")
@FOLDER
@click.pass_obj
def adapters_merge(
    settings: Settings, name: str, out: Path, base: str, folder: Path | None
) -> None:
    """Write OUT, a GGUF file of the base with the adapter NAME in it, for --llm gguf:OUT.

    The file knows what the adapter was made of, and forgetting does not reach it: it is yours.
    """
    from persona_agent.train.merge import merge_gguf  # late: needs the extra `train`

    with Store.open(settings.db) as store:
        weights = files_of(store, settings, folder).path(name)
    model = embedded_model() if base == "local" else Path(base)
    settings.show({"file": str(merge_gguf(model, weights, out))}, f"{out}")


def files_of(store: Store, settings: Settings, folder: Path | None) -> AdapterFiles:
    """Return the folders of adapters: those named, or beside the database's file."""
    if folder is None and store.database.path is None:
        raise click.UsageError(f"{settings.db} is no file; give --adapters")
    return AdapterFiles(store, folder or adapters_path(Path(settings.db)))


def forgetters(
    store: Store, settings: Settings, folder: Path | None, served: str | None
) -> Mapping[str, Forgetter]:
    """Return what forgetting reaches beside the database: a server first, then the files."""
    found: dict[str, Forgetter] = {}
    if served is not None:
        found["adapters on a server"] = hosted(store, settings, served)
    if folder is not None or store.database.path is not None:
        found["adapters on disk"] = files_of(store, settings, folder)
    return found


def hosted(store: Store, settings: Settings, url: str) -> Hosted:
    """Return the adapters that a server has loaded; its key is in VLLM_API_KEY."""
    return Hosted(store, ServedAdapters(url, api_key=settings.environ.get(KEY)))

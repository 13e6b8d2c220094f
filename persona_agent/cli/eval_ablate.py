"""The ablation: which part of what an agent knows of a person is worth what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli import ablate_weights
from persona_agent.cli.settings import Settings, data_folder, progress_bars
from persona_agent.cli.train import SERVED, tracing
from persona_agent.distil import Distilled, TraceOptions
from persona_agent.memory.embed import open_embedder
from persona_agent.program import Result
from persona_agent.train.options import METHODS, Method, TrainOptions

if TYPE_CHECKING:
    from persona_agent.eval.ablation.cache import Budget
    from persona_agent.eval.ablation.run import Settings as RunSettings
    from persona_agent.eval.ablation.study import Ablation
    from persona_agent.eval.tasks.task_set import TaskSet

DEFAULT = (
    "none,recent-8,similar-8,hybrid-8,profile-only,recent-8+profile,persona,persona-aligned,"
    "aligned-ungated,persona-similar-user,persona-similar-user-last,persona-random-user,"
    "shuffled-outcomes"
)


@click.command()
@click.option("--task", default="ml-rating", show_default=True, help="The task set, by name.")
@data_folder("The folder of data sets.")
@click.option(
    "--arms", default=DEFAULT, show_default=True, help="Names, by commas; see docs/ablation.md."
)
@click.option("--reference", default="label-prior", show_default=True, help="Gains are over it.")
@click.option("--users", type=click.IntRange(2), default=60, show_default=True)
@click.option("--queries", type=click.IntRange(1), default=5, show_default=True, help="Of each.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which users.")
@click.option("--llm", help="The model, in the place of the one given before the command.")
@click.option("--prose", is_flag=True, help="The model writes into personas, too.")
@click.option(
    "--adapters",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A database with what `persona-agent train` made of these people before the queries; or "
    'names of adapters that the model serves already: JSON, {"tft": {"USER": "NAME"}}.',
)
@click.option(
    "--train",
    type=click.Choice(METHODS),
    multiple=True,
    help="Train adapters on the histories first; kept in --out. May be repeated. For traces the "
    "model first thinks about the histories.",
)
@tracing
@click.option(
    "--base", help="What they adapt: a folder, a GGUF file, or local.  [default: that of --llm]"
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="[default: the method's]")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True)
@SERVED
@click.option("--budget", type=click.IntRange(0), help="Model requests of this run, at most.")
@click.option("--budget-tokens", type=click.IntRange(0), help="Tokens of this run, at most.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/ablation"),
    show_default=True,
    help="Where replies are kept and the report is written.",
)
@click.pass_obj
def ablate(settings: Settings, /, **given: Any) -> None:  # Any: click's options, checked below
    """Run ablations by name on real people, with intervals over people, verdicts and cost.

    Replies are kept: what was stopped goes on, and what is run again asks nothing.
    """
    from persona_agent.eval.ablation import report, run, study
    from persona_agent.eval.ablation.cache import Budget
    from persona_agent.eval.ablation.knowing import Options
    from persona_agent.eval.tasks.opening import open_task

    arms = tuple(name.strip() for name in given["arms"].split(",") if name.strip())
    wanted = run.Settings(
        arms,
        given["users"],
        given["queries"],
        given["seed"],
        given["reference"],
        Options(prose=given["prose"]),
    )
    if given["llm"]:
        settings = replace(settings, llm=given["llm"])
    tasks = open_task(given["task"], given["data"])
    with progress_bars() as bars:
        shown = {}

        def tell(stage: str, done: int, due: int) -> None:
            if stage not in shown:
                shown[stage] = bars.add_task(stage, total=due)
            bars.update(shown[stage], completed=done, total=due)

        budget = Budget(given["budget"], given["budget_tokens"])
        weights, budget = _weights(given, settings, wanted, tasks, budget, tell)
        with ablate_weights.Late(
            lambda: ablate_weights.serving(settings, weights, given["served"])
        ) as llm:
            found = study.ablate(
                tasks,
                llm,
                wanted,
                given["out"],
                model=settings.llm,
                embedder=open_embedder(settings.embedder),
                adapters=weights.names,
                budget=budget,
                tell=tell,
            )
    study.keep(found, given["out"])
    path = report.write(found, given["out"])
    if settings.as_json:
        settings.show(
            {"rows": found.rows, "claims": found.claims, "report": str(path)}
            | {"adapters": weights.notes}
        )
    else:
        for note in weights.notes:
            click.echo(note)
        _print(found, path)


def _weights(
    given: Mapping[str, Any],  # Any: click's options
    settings: Settings,
    wanted: RunSettings,
    tasks: TaskSet,
    budget: Budget,
    tell: ablate_weights.Tell,
) -> tuple[ablate_weights.Weights, Budget]:
    """Return the adapters that are to be used, trained first if that is asked, and the budget left."""
    sample = wanted.sample(tasks)
    path: Path | None = given["adapters"]
    methods: tuple[Method, ...] = given["train"]
    own = settings.llm.removeprefix(ablate_weights.IN_PROCESS)
    base = given["base"] or ("local" if own == settings.llm else own)
    if methods and path is not None:
        raise click.UsageError("--train makes adapters and --adapters names some; give one of them")
    if methods:
        ablate_weights.check_serves(settings, given["served"])
        distilled: Mapping[str, Result[Distilled]] = {}
        if "traces" in methods:
            thoughts = TraceOptions(
                cases=given["cases"],
                memories=wanted.options.memories,
                samples=given["samples"],
                budget=wanted.options.budget,
                hint=given["hint"],
            )
            distilled, budget = ablate_weights.thoughts(
                given["out"], sample, settings, thoughts, budget, tell
            )
        options = TrainOptions(rate=given["rate"], epochs=given["epochs"])
        trained = ablate_weights.trained(
            given["out"], sample, base, options, methods, distilled, tell
        )
        return trained, budget
    if path is None:
        return ablate_weights.Weights(), budget
    with path.open("rb") as file:
        is_database = file.read(len(ablate_weights.SQLITE)) == ablate_weights.SQLITE
    if is_database:
        ablate_weights.check_serves(settings, given["served"])
        return ablate_weights.stored(path, sample, base, settings.tenant), budget
    return ablate_weights.named(path), budget


def _print(found: Ablation, path: Path) -> None:
    from persona_agent.eval.ablation import report

    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(report.title(found), highlight=False)
    for rows in (report.arms_table(found.rows), report.claims_table(found)):
        table = Table(box=None, pad_edge=False)
        for place, name in enumerate(rows[0]):
            table.add_column(name, overflow="fold", no_wrap=place == 0)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for told in filter(None, (report.untested(found), report.failures(found))):
        console.print(told, highlight=False)
    console.print(f"{found.run.asked} requests were asked anew", highlight=False)
    click.echo(path)

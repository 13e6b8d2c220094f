"""The study of recall: does memory find the turns that answer a question?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli.settings import Settings, data_folder, progress_bars
from persona_agent.llm.metered import metered
from persona_agent.llm.progress import ProgressLLM
from persona_agent.memory.embed import open_embedder
from persona_agent.types import RecallMode

if TYPE_CHECKING:
    from persona_agent.eval.recall import Recall

MODES = ("recent", "similar", "hybrid")


@click.command()
@click.option("--dataset", type=click.Choice(["locomo", "prefeval"]), default="locomo")
@data_folder("The folder of all data.", required=True)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(MODES),
    multiple=True,
    help="Again for more; the first is what others are compared with.  [default: all]",
)
@click.option(
    "-k",
    "ks",
    type=click.IntRange(1),
    multiple=True,
    default=(5, 10),
    show_default=True,
    help="How many memories; again for more.",
)
@click.option(
    "--choose",
    type=click.IntRange(2),
    metavar="N",
    help="Instead let the model choose of four options, for N users: none or k memories of each "
    "mode (prefeval).",
)
@click.option("--users", type=click.IntRange(1), help="Only so many users.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Which users.")
@click.pass_obj
def recall(
    settings: Settings,
    /,
    *,
    dataset: str,
    data: Path,
    modes: tuple[str, ...],
    ks: tuple[int, ...],
    choose: int | None,
    users: int | None,
    seed: int,
) -> None:
    """Ask real memory real questions whose evidence is known (LoCoMo, PrefEval).

    Which share of the questions finds a turn with its answer among the k recalled, for each mode,
    with intervals over conversations or topics. No model answers and none judges.
    """
    from persona_agent.eval import recall as study  # late: numpy and the store are loaded

    if choose is not None:
        if dataset != "prefeval" or modes:
            raise click.UsageError("--choose is for --dataset prefeval, and takes every mode")
        _choose(settings, data, choose, max(ks), seed)
        return
    probes = study.DATASETS[dataset](data)
    if users is not None:
        probes = probes.sample(users, seed)
    with progress_bars() as bars:
        bar = bars.add_task("remembering and recalling", total=len(probes.memories))
        found = study.measure(
            probes,
            open_embedder(settings.embedder),
            modes=cast("tuple[RecallMode, ...]", modes or MODES),
            ks=ks,
            tell=lambda done, due: bars.update(bar, completed=done, total=due),
        )
    if settings.as_json:
        settings.show(found)
    else:
        _print(found)


def _choose(settings: Settings, data: Path, users: int, k: int, seed: int) -> None:
    from persona_agent.eval.choice import arms, choose  # late: as above
    from persona_agent.eval.tasks.prefeval import prefeval_choice

    tasks = prefeval_choice(data).sample(users=users, seed=seed)
    plans = arms(k)
    with closing(metered(settings.model())) as llm, progress_bars() as bars:
        bar = bars.add_task("choosing", total=len(tasks.queries))
        found = choose(
            tasks,
            ProgressLLM(llm, lambda done, due: bars.update(bar, completed=done, total=due)),
            open_embedder(settings.embedder),
            plans,
            cluster=lambda query: query.scope.user.split("/")[0],  # the topic
        )
    if settings.as_json:
        settings.show(found)
        return
    table = Table(title=f"prefeval: {len(tasks.queries)} choices of four, {settings.llm}")
    table.add_column("memory")
    table.add_column("right [95%]", justify="right")
    table.add_column("more than without", justify="right")
    for one in found:
        right = f"{one.right.mean:.3f} [{one.right.low:.3f}, {one.right.high:.3f}]"
        table.add_row(one.arm, right, "" if one.gain is None else str(one.gain))
    Console().print(table)


def _print(found: Recall) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    table = Table(
        title=f"{found.dataset}: {found.questions} questions, {found.users} users with "
        f"{found.memories:.0f} turns, {found.embedder}"
    )
    table.add_column("questions")
    table.add_column("mode")
    for name in ("k", "n", "hit@k [95%]", "share of evidence", "hits more than the first mode"):
        table.add_column(name, justify="right")
    for row in found.rows:
        hit = row.hit
        table.add_row(
            row.kind,
            row.mode,
            str(row.k),
            str(hit.count),
            f"{hit.mean:.3f} [{hit.low:.3f}, {hit.high:.3f}]",
            f"{row.found.mean:.3f}",
            "" if row.gain is None else str(row.gain),
        )
    console.print(table)
    left_out = [f"{number} because {why}" for why, number in found.left_out.items()]
    console.print(
        f"Left out: {', '.join(left_out) or 'no question'}; {found.skipped} turns were refused by "
        "the memory's screen.",
        highlight=False,
    )

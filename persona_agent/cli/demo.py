"""The demo command: real people, an embedded model, an honest table."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.eval import demo as study
from persona_agent.eval import movielens, report
from persona_agent.llm import open_llm


@click.command()
@click.option("--users", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Which users.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--held-out", type=click.IntRange(2), default=10, show_default=True)
@click.option("--prose", is_flag=True, help="Let the model write summaries and critiques, too.")
@click.option("--out", type=click.Path(file_okay=False), default="out/demo", show_default=True)
@click.pass_obj
def demo(
    settings: Settings, users: int, seed: int, rounds: int, held_out: int, prose: bool, out: str
) -> None:
    """Watch an agent learn real people (MovieLens-100K) and see whether it helped.

    Remembers each user's past, aligns the persona, then predicts what the user did next, beside
    baselines that use no model. Leaves a report with everything it found.
    """
    begun = time.perf_counter()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = movielens.load()
    options = replace(study.Settings().options, rounds=rounds, held_out=held_out)
    wanted = study.Settings(users, seed, prose, options)
    llm = open_llm(
        settings.llm,
        base_url=settings.base_url,
        threads=settings.threads,
        environ=settings.environ,
    )
    with progress_bars() as bars:
        tasks = {}

        def tell(stage: str, done: int, due: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=due)
            bars.update(tasks[stage], completed=done, total=due)

        found = study.run_demo(data, llm, folder, wanted, tell)
    page = report.write(found, folder / "report.html", model=settings.llm)
    seconds = time.perf_counter() - begun
    if settings.as_json:
        settings.show({"seconds": seconds, "report": str(page), "demo": found})
    else:
        _print(found, seconds, page)


def _print(found: study.Demo, seconds: float, page: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    table = Table(title=report.title(found))
    table.add_column("arm")
    for name in ("MAE", "gain over own statistics", f"best of {study.CHOICES}", "gain", "worse"):
        table.add_column(name, justify="right")
    for row in found.rows:
        own = row.arm == study.STATISTICS
        table.add_row(
            row.arm,
            f"{row.mae:.3f}",
            "" if own else str(row.mae_gain),
            f"{row.accuracy:.2f}",
            "" if own else str(row.accuracy_gain),
            "" if own else f"{row.worse:.0%}",
        )
    console.print(table)
    for line in report.verdict(found):
        console.print(line, highlight=False)
    console.print(f"\n[bold]{found.question}[/]")
    for who, said in found.answers.items():
        console.print(f"[dim]{who}:[/] {said}", highlight=False, markup=True)
    console.print(f"\n{seconds:.0f} s; report: {page}", highlight=False)

"""The study whether relations and personas stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from persona_agent.cli.settings import Settings, data_folder, progress_bars

DATASETS = ("ml-100k", "ml-latest-small", "lastfm")


@click.command()
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    type=click.Choice(DATASETS),
    help="May be repeated; all by default.",
)
@click.option(
    "--cells",
    type=click.Choice(["primary", "all"]),
    default="primary",
    show_default=True,
    help="The controls under one likelihood, or under all.",
)
@click.option(
    "--protocol", type=click.Choice(["weak", "strong"]), default="weak", show_default=True
)
@click.option("--trials", type=click.IntRange(1), default=8, show_default=True)
@click.option("--splits", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/stack"),
    show_default=True,
    help="A study that was stopped goes on from here.",
)
@data_folder("The folder of the data sets and graphs.")
@click.option("--quick", is_flag=True, help="MovieLens-100K, one trial, one split: a minute.")
@click.option("--dry-run", is_flag=True, help="Fit each arm once and tell how long all would take.")
@click.pass_obj
def stack(
    settings: Settings,
    /,
    datasets: tuple[str, ...],
    workers: int,
    out: Path,
    data: Path | None,
    quick: bool,
    dry_run: bool,
    **given: Any,  # the design, checked there
) -> None:
    """Do relations and personas both improve recommendation, and do they stack?

    Every combination of relation, personas and likelihood of one model, with controls and simple
    bars, tuned alike: means, contrasts with intervals, and a verdict by rules fixed before. The
    report is OUT/report.md with pictures; every fit is kept in OUT, so that a stopped study goes
    on.
    """
    from persona_agent.eval.stack import report as stack_report
    from persona_agent.eval.stack import study  # late: needs the extra `recommend`
    from persona_agent.eval.stack.design import Design

    if quick:
        given |= {"trials": 1, "splits": 1, "seeds": 1}
        datasets = datasets or DATASETS[:1]
    design = Design(datasets=datasets or DATASETS, **given)
    console = Console(stderr=True)
    if dry_run:
        seconds = study.timed(design, data)
        settings.show(seconds | {"hours": sum(seconds.values()) / 3600 / workers})
        return
    with progress_bars() as bars:
        bar = bars.add_task("fits", total=None)
        store = study.run_study(
            design,
            out,
            data,
            workers=workers,
            on_fit=lambda one: bars.update(
                bar, completed=one.done, total=one.due, description=one.last
            ),
        )
    findings = stack_report.write(store, design, data)
    if settings.as_json:
        settings.show([one.to_json() for one in findings])
        return
    for one in findings:
        console.print(f"[bold]{one.dataset}[/]: {' '.join(one.verdict)}", highlight=False)
    click.echo(out / "report.md")

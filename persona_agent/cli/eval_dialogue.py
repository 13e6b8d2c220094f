"""The study of asking and recommending in simulated dialogues."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli.settings import Settings, data_folder, progress_bars


@click.command()
@click.option(
    "--arm",
    "names",
    multiple=True,
    help="May be repeated; all but UNICORN's by default. unicorn-paper and unicorn-released train.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--episodes", type=click.IntRange(1), help="Of the test, spread evenly.  [all]")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Of UNICORN's training, those done before included.",
)
@click.option("--report", "report_only", is_flag=True, help="Only tell what is there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/dialogue"),
    show_default=True,
    help="Arms that are done are read from here; a training that was stopped goes on.",
)
@data_folder("The folder of the data sets, with crs-lastfm-star in it.", required=True)
@click.pass_obj
def dialogue(
    settings: Settings,
    /,
    names: tuple[str, ...],
    seeds: int,
    episodes: int | None,
    rounds: int,
    report_only: bool,
    out: Path,
    data: Path,
) -> None:
    """Ask or recommend: policies against the simulated users of Last.FM*.

    SR@15, turns and hDCG@(15,10) with intervals over users, beside published figures; users who
    err; and what a history is worth. The report is OUT/report.md with pictures.
    """
    from persona_agent.eval.dialogue import arms, report, study  # late: needs `recommend`
    from persona_agent.eval.dialogue.world import open_world

    chosen = arms.chosen(names)
    learners = [one for one in arms.UNICORNS if one in names]
    if not report_only:
        world = open_world(data, out, episodes)
        with progress_bars() as bars:
            bar = bars.add_task("", total=None)

            def tell(name: str, done: int, due: int) -> None:
                bars.update(bar, description=name, completed=done, total=due)

            study.run_study(world, chosen, learners, out, seeds=seeds, rounds=rounds, tell=tell)
    found = report.write(out)
    if settings.as_json:
        settings.show(found.to_json())
        return
    table = Table(title="Last.FM*, means over episodes")
    for heading in ("arm", "SR@15", "AT", "hDCG", "episodes a second"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for row in found.rows:
        table.add_row(
            row.arm,
            f"{row.success.mean:.3f}",
            f"{row.turns.mean:.2f}",
            f"{row.dcg.mean:.3f}",
            f"{row.per_second:.0f}",
        )
    Console(stderr=True).print(table)
    click.echo(out / "report.md")

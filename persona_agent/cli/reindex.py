"""The command that makes a database's vectors anew, for another embedder."""

from __future__ import annotations

import click

from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.memory.embed import open_embedder
from persona_agent.memory.generations import reindex as run
from persona_agent.memory.store import Store


@click.command()
@click.pass_obj
def reindex(settings: Settings) -> None:
    """Embed all memories with --embedder, and make it the database's own.

    Others may go on working meanwhile. Stopped or killed, it goes on where it was when it is run
    again. What lacks a vector gets one.
    """
    embedder = open_embedder(settings.embedder)
    with Store.open(settings.db) as store, progress_bars() as bars:
        bar = bars.add_task(f"embedding with {embedder.name}", total=None)

        def show(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        done = run(store, embedder, on_progress=show)
    settings.show(
        done,
        f"{done.embedded} memories embedded with {done.embedder}, "
        f"{done.removed} vectors of other embedders removed",
    )

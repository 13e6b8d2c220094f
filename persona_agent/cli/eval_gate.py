"""The gate on simulated users: whom does an accepted persona make worse?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli.settings import Settings

if TYPE_CHECKING:
    from persona_agent.eval.gates import Cell, Crowd

KINDS = ("rating", "choice")


def _numbers(context: click.Context, option: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: numbers by commas are due") from error


@click.command()
@click.option("--users", type=click.IntRange(2), default=2000, show_default=True)
@click.option("--kind", type=click.Choice(KINDS), default="rating", show_default=True)
@click.option("--candidates", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--held-out", default="6,12,24", show_default=True, callback=_numbers, help="By commas."
)
@click.option(
    "--risk", default="0.02,0.05,0.1,0.2", show_default=True, callback=_numbers, help="By commas."
)
@click.option("--drift", type=click.FloatRange(0), default=0.0, help="Stars by which tastes move.")
@click.option("--mood", type=click.FloatRange(0), default=0.0, help="Stars of moods that pass.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.pass_obj
def gate(
    settings: Settings,
    /,
    users: int,
    kind: str,
    candidates: int,
    held_out: Sequence[float],
    risk: Sequence[float],
    drift: float,
    mood: float,
    seed: int,
) -> None:
    """Simulate users whose truth is known, and count whom the gate's decisions make worse.

    Without a gate, with the likelihood and with the metric, at equal numbers of held-out
    interactions. The promise: at most 5% of users worse.
    """
    from persona_agent.eval import gates

    crowd = gates.Crowd(
        "choice" if kind == "choice" else "rating", candidates, drift=drift, mood=mood
    )
    cells = gates.study(
        crowd, users=users, held_out=[int(one) for one in held_out], risks=risk, seed=seed
    )
    if settings.as_json:
        settings.show({"crowd": crowd, "cells": cells})
    else:
        _print(crowd, cells)


def _print(crowd: Crowd, cells: Sequence[Cell]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("gate by", "held out", "risk", "accepted", "worse", "by likelihood",
                 "noticeably", "of accepted", "gain", "attained"):  # fmt: skip
        table.add_column(name, justify="left" if name == "gate by" else "right")
    for one in cells:
        table.add_row(
            "no gate" if one.measure == "none" else one.measure,
            "" if one.measure == "none" else str(one.held_out),
            "" if one.measure == "none" else f"{one.risk:g}",
            *(f"{value:.1%}" for value in (one.accepted, one.worse, one.worse_likelihood,
                                           one.noticeably, one.worse_of_accepted)),
            f"{one.gain:+.4f}",
            f"{one.attained:.0%}",
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(f"{cells[0].users} users, {crowd.candidates} candidates each, {crowd.kind}")
    console.print(table)

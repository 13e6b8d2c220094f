"""The command that plans: what so many users need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import click

from persona_agent.cli.settings import Settings
from persona_agent.eval.capacity import Load, need

INPUTS = tuple(one for one in dataclasses.fields(Load) if one.name != "users")


def _source(metadata: Mapping[str, str]) -> str:
    return "; ".join(part for part in (metadata["source"], metadata["why"]) if part)


def _inputs(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for each input of the model."""
    for one in reversed(INPUTS):
        command = click.option(
            f"--{one.name.replace('_', '-')}",
            type=float,
            default=one.default,
            show_default=True,
            help=f"{one.metadata['meaning']} ({_source(one.metadata)})",
        )(command)
    return command


@click.command()
@click.option(
    "--users",
    "sizes",
    type=float,
    multiple=True,
    default=(1e4, 1e6, 1e8),
    show_default=True,
    help="Users that are kept; several times for a column each.",
)
@_inputs
@click.pass_obj
def plan(settings: Settings, /, sizes: tuple[float, ...], **given: Any) -> None:
    """Plan machines: rows, storage, writes, index memory, GPUs and instances for so many users.

    Each input below is measured on this project, assumed, or yours to say. Any: floats, by name.
    """
    loads = [Load(users=size, **given) for size in sizes]
    needs = [dataclasses.asdict(need(load)) for load in loads]
    shown = [
        {"users": size, **one, "inputs": given} for size, one in zip(sizes, needs, strict=True)
    ]
    names = list(needs[0])
    lines = [_row("users", sizes), *(_row(name, [one[name] for one in needs]) for name in names)]
    notes = [
        f"  {one.name} {given[one.name]:g}: {_source(one.metadata)}"
        for one in INPUTS
        if given[one.name] == one.default and one.metadata["source"] != "yours"
    ]
    settings.show(shown, "\n".join([*lines, "", "from these inputs, yours apart:", *notes]))


def _row(name: str, values: Any) -> str:  # Any: numbers, whole or not
    return f"{name:<34}" + "".join(f"{_number(value):>18}" for value in values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"

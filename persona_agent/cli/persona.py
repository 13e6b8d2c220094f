"""Commands on personas: show, history, diff, rollback, lock, unlock, set."""

from __future__ import annotations

from pathlib import Path

import click

from persona_agent.cli.settings import Settings
from persona_agent.errors import InputError


@click.group()
def persona() -> None:
    """See and correct what an agent believes about a user."""


@persona.command()
@click.argument("user")
@click.pass_obj
def show(settings: Settings, user: str) -> None:
    """Show the persona of USER: a line's id, a star if locked, its text, where it comes from."""
    with settings.open(model=False) as agent:
        settings.show(agent.persona(user).current)


@persona.command()
@click.argument("user")
@click.pass_obj
def history(settings: Settings, user: str) -> None:
    """List the versions of USER's persona, oldest first."""
    with settings.open(model=False) as agent:
        versions = agent.persona(user).history()
    rows = [
        f"{one.version:>3}  {one.created:%Y-%m-%d %H:%M}  {one.origin:<9}  {len(one.lines):>2} lines"
        f"  {one.note}"
        for one in versions
    ]
    settings.show(versions, "\n".join(rows) or "no version is stored yet")


@persona.command()
@click.argument("user")
@click.argument("old", type=int, required=False)
@click.argument("new", type=int, required=False)
@click.pass_obj
def diff(settings: Settings, user: str, old: int | None, new: int | None) -> None:
    """Show what changed between versions OLD and NEW; by default in the latest change."""
    with settings.open(model=False) as agent:
        settings.show(agent.persona(user).diff(old, new))


@persona.command()
@click.argument("user")
@click.argument("version", type=int)
@click.pass_obj
def rollback(settings: Settings, user: str, version: int) -> None:
    """Return to VERSION of USER's persona, as a new version."""
    with settings.open(model=False) as agent:
        settings.show(agent.persona(user).rollback(version))


@persona.command()
@click.argument("user")
@click.argument("line")
@click.pass_obj
def lock(settings: Settings, user: str, line: str) -> None:
    """Lock LINE (its id or text), so that no alignment changes it."""
    with settings.open(model=False) as agent:
        settings.show(agent.persona(user).lock(line))


@persona.command()
@click.argument("user")
@click.argument("line")
@click.pass_obj
def unlock(settings: Settings, user: str, line: str) -> None:
    """Unlock LINE (its id or text)."""
    with settings.open(model=False) as agent:
        settings.show(agent.persona(user).unlock(line))


@persona.command(name="set")
@click.argument("user")
@click.option("--line", "lines", multiple=True, help="A line; repeat for several.")
@click.option("--file", type=click.Path(dir_okay=False), help="A text file, one line each.")
@click.pass_obj
def set_lines(settings: Settings, user: str, lines: tuple[str, ...], file: str | None) -> None:
    """Replace the lines of USER's persona by hand; lines that stay keep their evidence."""
    if bool(lines) == bool(file):
        raise click.UsageError("give --line, once or several times, or --file")
    if file:
        try:
            lines = tuple(Path(file).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}") from error
    with settings.open(model=False) as agent:
        settings.show(agent.persona(user).set([line for line in lines if line.strip()]))

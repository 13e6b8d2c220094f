"""Studies of the conversation: how well it reads and links, and what remembering saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.memory.embed import open_embedder

if TYPE_CHECKING:
    from persona_agent.eval.chat import answers, mentions, start

Tell = Callable[[str, int, int], None]


@click.command("chat")
@click.option(
    "--part",
    type=click.Choice(["dev", "test"]),
    default="test",
    show_default=True,
    help="Settings were chosen by dev.",
)
@click.pass_obj
def chat(settings: Settings, part: str) -> None:
    """How well are answers read, and what people name linked? On hand-made sets.

    Answers in a dozen languages, nonsense among them, by exact words, by the model, and by both;
    phrases for films that name no genre exactly, by the embedder.
    """
    from persona_agent.eval.chat import answers, mentions  # late: needs the extra `recommend`
    from persona_agent.eval.chat.domains import films

    embedder = open_embedder(settings.embedder)
    with closing(settings.model()) as llm, _telling() as tell:  # type: ignore[type-var]
        read = answers.measure(llm, embedder, part, tell)
        linked = mentions.measure(films(), embedder, part)
    if settings.as_json:
        settings.show({"answers": read, "mentions": linked})
    else:
        _print_answers(read, settings.llm)
        _print_mentions(linked)


@click.command("chat-start")
@click.option("--users", type=click.IntRange(2), default=200, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Which people.")
@click.option("--show", type=click.IntRange(1), default=3, show_default=True, help="Films a list.")
@click.option("--patience", type=click.IntRange(0), default=4, show_default=True)
@click.pass_obj
def chat_start(settings: Settings, users: int, seed: int, show: int, patience: int) -> None:
    """Does starting from memory shorten the next conversation? Simulated people, no model."""
    from persona_agent.chat.deciding import Policy  # late: needs the extra `recommend`
    from persona_agent.eval.chat import start

    wanted = start.Settings(users, seed, Policy(show=show, patience=patience))
    with _telling() as tell:
        found = start.measure(wanted, tell)
    if settings.as_json:
        settings.show(found)
    else:
        _print_start(found)


@contextmanager
def _telling() -> Iterator[Tell]:
    """Give a function that shows how far each stage is."""
    with progress_bars() as bars:
        tasks = {}

        def tell(stage: str, done: int, due: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=due)
            bars.update(tasks[stage], completed=done, total=due)

        yield tell


def _console() -> Console:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    return console


def _print_answers(found: answers.Report, model: str) -> None:
    console = _console()
    table = Table(title=f"Share read right, {found.answers} answers ({found.part}), {model}")
    first = next(iter(found.arms.values()))
    for name in ("read by", "all [95%]", *first.parts):
        table.add_column(name, justify="left" if name == "read by" else "right")
    for name, arm in found.arms.items():
        parts = [f"{one.mean:.2f}" for one in arm.parts.values()]
        all_ = f"{arm.right.mean:.3f} [{arm.right.low:.2f}, {arm.right.high:.2f}]"
        table.add_row(name, all_, *parts)
    console.print(table)
    used = list(found.arms)[-1]
    matrix = Table(title=f"What was read ({used}), by what was meant")
    matrix.add_column("meant")
    for name in found.arms[used].confusion:
        matrix.add_column(name, justify="right")
    for name, row in found.arms[used].confusion.items():
        matrix.add_row(name, *(str(one) for one in row.values()))
    console.print(matrix)
    console.print(
        f"{found.by_words} answers were read by words alone, without the model; it takes "
        f"{found.ms:.0f} ms a request in a batch.",
        highlight=False,
    )
    for text, meant, got in found.wrong:
        console.print(f"  {text!r}: {meant}, read as {got}", highlight=False, markup=False)


def _print_mentions(found: mentions.Report) -> None:
    console = _console()
    console.print(
        f"Of {found.meant} phrases that mean a genre or a decade {found.right} were linked to it, "
        f"{found.wrong} to another; of {found.meaningless} that mean none, {found.false} were "
        "linked to one.",
        highlight=False,
    )
    for phrase, meant, got in found.mistakes:
        console.print(f"  {phrase!r}: {meant}, linked to {got}", highlight=False, markup=False)


def _print_start(found: start.Report) -> None:
    console = _console()
    table = Table(title=f"The second conversation of {found.users} simulated people")
    for name in ("starts from", "turns [95%]", "found", "turns saved against cold"):
        table.add_column(name, justify="left" if name == "starts from" else "right")
    for name, arm in found.arms.items():
        turns = f"{arm.turns.mean:.2f} [{arm.turns.low:.2f}, {arm.turns.high:.2f}]"
        saved = "" if arm.saved is None else str(arm.saved)
        table.add_row(name, turns, f"{arm.found.mean:.2f}", saved)
    console.print(table)

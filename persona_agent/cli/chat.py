"""The chat command: a conversation in the terminal, or from piped input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from persona_agent.cli.settings import Settings, data_folder
from persona_agent.errors import InputError

if TYPE_CHECKING:
    from persona_agent.chat.session import Exchange

YOU, AGENT = "you> ", "agent> "


@click.command()
@click.option(
    "--domain",
    "about",
    default="ml-100k",
    show_default=True,
    help="ml-100k, lastfm, or the path of a CSV table: a row an item, a column a kind.",
)
@click.option("--user", required=True, help="Whom it talks to; what it learns is kept for them.")
@click.option("--show", type=click.IntRange(1), default=3, show_default=True, help="Items a list.")
@click.option("--patience", type=click.IntRange(0), default=4, show_default=True,
              help="Questions in a row before a list.")  # fmt: skip
@click.option("--words-alone", is_flag=True, help="Load no model: exact words are understood.")
@click.option(
    "--transcript",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append what is said to this file.",
)
@data_folder("The folder of the data sets, for lastfm.")
@click.pass_obj
def chat(
    settings: Settings,
    about: str,
    user: str,
    show: int,
    patience: int,
    words_alone: bool,
    transcript: Path | None,
    data: Path | None,
) -> None:
    """Talk about what you like until something is found, and go on from there next time.

    Reads a line a message, from the terminal or a pipe, until something is accepted, "bye" or the
    end of the input. With --json each exchange is one JSON object a line.
    """
    from persona_agent.chat.deciding import Policy  # late: needs the extra `recommend`
    from persona_agent.eval.chat.domains import open_domain

    domain = open_domain(about, data)
    policy = Policy(show=show, patience=patience)
    with _appended(transcript) as file, settings.open(model=not words_alone) as agent:
        said = _Said(settings.as_json, file)
        session = agent.chat(domain, user_id=user, policy=policy)
        said.head(f"{datetime.now(UTC):%Y-%m-%d %H:%M} {domain.name}, {user}")
        said.tell(session.start())
        for line in _lines(quiet=settings.as_json):
            said.note(YOU, line)
            said.tell(session.say(line))
            if session.state.outcome in ("accepted", "left"):
                return


class _Said:
    """Shows what is said, and writes the transcript."""

    def __init__(self, as_json: bool, file: TextIO | None) -> None:
        self._as_json = as_json
        self._file = file

    def head(self, text: str) -> None:
        """Begin a conversation in the transcript."""
        if self._file is not None:
            self._file.write(f"# {text}\n")

    def note(self, who: str, text: str) -> None:
        """Write what somebody said to the transcript."""
        if self._file is not None:
            self._file.write(f"{who}{text}\n")
            self._file.flush()

    def tell(self, exchange: Exchange) -> None:
        """Show what the agent says."""
        self.note(AGENT, str(exchange))
        if self._as_json:
            click.echo(json.dumps(exchange.to_json(), ensure_ascii=False))
        else:
            click.echo(f"{AGENT}{exchange}")


def _lines(*, quiet: bool) -> Iterator[str]:
    """Yield the lines of standard input; from a pipe they are shown, so that all can be read.

    Bytes that are no UTF-8 are replaced: what people type must not end the conversation.
    """
    is_terminal = sys.stdin.isatty()
    while True:
        if not quiet:
            click.echo(YOU, nl=False)
        line = sys.stdin.buffer.readline().decode(errors="replace")
        if not line:
            if not quiet:
                click.echo()
            return
        text = line.rstrip("\r\n")
        if not (is_terminal or quiet):
            click.echo(text)
        yield text


@contextmanager
def _appended(path: Path | None) -> Iterator[TextIO | None]:
    """Give the file of the transcript, None if there is none."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        yield file

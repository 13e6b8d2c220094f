"""Commands on memories: add, search, users."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from persona_agent import prompts
from persona_agent.cli.settings import Settings
from persona_agent.errors import InputError, UnknownUser
from persona_agent.records import Batch, Format, read_lines
from persona_agent.types import Scope


@click.command()
@click.argument("file", type=click.Path(dir_okay=False), default="-")
@click.option("--user", help="Whose interactions these are, where a line names no user.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="Default: by ending.")
@click.option("--keep-going", is_flag=True, help="Store the good lines, report the others.")
@click.pass_obj
def add(
    settings: Settings, file: str, user: str | None, form: Format | None, keep_going: bool
) -> None:
    """Remember the interactions in FILE (JSONL or CSV; "-" is standard input).

    A line has the keys user, query, outcome, response, when, item, options, metadata, id. CSV has
    a header; columns of other names become metadata. If a line cannot be read, nothing is stored,
    unless --keep-going.
    """
    text, kind = _content(file, form)
    scope = Scope(user, settings.tenant) if user else None
    batch = read_lines(
        text,
        kind,
        scope=scope,
        tenant=settings.tenant,
        now=datetime.now(UTC),
    )
    if batch.unread and not keep_going:
        raise InputError(
            f"{_complaints(batch)}\nnothing was stored; mend the lines, or use --keep-going"
        )
    with settings.open(model=False) as agent:
        result = agent.add(batch.interactions)
    counts = {
        event: sum(one.event == event for one in result.results)
        for event in ("ADD", "UPDATE", "SKIP")
    }
    summary = {
        "added": counts["ADD"],
        "updated": counts["UPDATE"],
        "skipped": counts["SKIP"],
        "unread": batch.unread,
        "results": result.results,
    }
    words = f"{counts['ADD']} added, {counts['UPDATE']} updated, {counts['SKIP']} skipped"
    reasons = [f"  {one.id}: {one.reason}" for one in result.results if one.event == "SKIP"]
    settings.show(summary, "\n".join([words, *reasons[:10]]))
    if batch.unread:
        raise InputError(f"{_complaints(batch)}\nthe other lines were stored")


@click.command()
@click.argument("user")
@click.argument("query")
@click.option("-k", "top_k", type=click.IntRange(1), default=10, show_default=True)
@click.pass_obj
def search(settings: Settings, user: str, query: str, top_k: int) -> None:
    """Find the memories of USER that are most similar to QUERY."""
    with settings.open(model=False) as agent:
        result = agent.search(query, user_id=user, top_k=top_k)
        known = bool(result.results) or user in agent.users()
    if not known:
        raise UnknownUser(f"nothing is stored about user {user!r}; add interactions first")
    settings.show(result)


@click.command()
@click.pass_obj
def users(settings: Settings) -> None:
    """List the users something is stored about."""
    with settings.open(model=False) as agent:
        names = agent.users()
    settings.show(names, "\n".join(prompts.as_data(name, 200) for name in names))


def _content(file: str, form: Format | None) -> tuple[str, Format]:
    name = "standard input" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 (byte {error.start}); convert it") from error
    return text, form or ("csv" if file.lower().endswith(".csv") else "jsonl")


def _complaints(batch: Batch) -> str:
    lines = [f"line {one.line}: {one.reason}" for one in batch.unread[:10]]
    more = len(batch.unread) - len(lines)
    return "\n".join(lines + ([f"and {more} more"] if more > 0 else []))

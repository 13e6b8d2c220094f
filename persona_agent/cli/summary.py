"""The command on summaries: what a user's memories say in short."""

from __future__ import annotations

import click

from persona_agent.cli.settings import Settings
from persona_agent.records import parse_time


@click.command()
@click.argument("user")
@click.option("--refresh", is_flag=True, help="Bring it up to date first, with --llm.")
@click.option("--as-of", help="What was said at a time: ISO 8601, or seconds since 1970.")
@click.pass_obj
def summary(settings: Settings, user: str, refresh: bool, as_of: str | None) -> None:
    """Show what the memories of USER say in short, and how many of them each line rests on.

    Only what is new since the last time is asked of the model.
    """
    when = None if as_of is None else parse_time(as_of)
    with settings.open(model=refresh) as agent:
        if refresh:
            agent.summarise(user)
        settings.show(agent.summary(user, as_of=when))

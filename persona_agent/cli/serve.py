"""Commands of the server: serve, and the keys it lets in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from click.core import ParameterSource

from persona_agent.cli.settings import Settings
from persona_agent.errors import StoreError
from persona_agent.memory.api_keys import SCOPES, ApiKeys, KeyScope
from persona_agent.memory.store import Store

GLOBAL = {"db": "database", "llm": "llm", "embedder": "embedder", "base_url": "base_url"}
GLOBAL |= {"threads": "threads", "tenant": "tenant"}


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="A TOML file.")
@click.option("--host", help="Address to listen on; 127.0.0.1 unless said otherwise.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 8321 unless said otherwise.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.")
@click.option("--show", is_flag=True, help="Print the configuration, secrets masked, and end.")
@click.pass_context
def serve(
    context: click.Context,
    config: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    show: bool,
) -> None:
    """Serve OpenAI's API with a memory of each user, and the memory's own routes.

    Options before the command that are given go before the environment
    (PERSONA_AGENT_SERVE_KEY, …), that before the file.
    """
    settings: Settings = context.obj
    from persona_agent.serve.config import load  # late: needs the extra `server`
    from persona_agent.serve.run import run

    given = {"host": host, "port": port, "workers": workers, **_given(context, settings)}
    found = load(config, environ=settings.environ, given=given)
    if show:
        settings.show(found.shown())
    else:
        run(found)


def _given(context: click.Context, settings: Settings) -> dict[str, object]:
    """Return those options before the command that somebody set."""
    parent = context.parent
    told = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {
        key: getattr(settings, name)
        for name, key in GLOBAL.items()
        if parent is not None and parent.get_parameter_source(name) in told
    }


@click.group()
def keys() -> None:
    """Keys that the server lets in: create, list, revoke."""


@keys.command("create")
@click.option("--user", help="The one user that the key speaks for.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="May be repeated."
)
@click.option("--name", default="", help="What it is for.")
@click.pass_obj
def create_key(settings: Settings, user: str | None, scopes: Sequence[KeyScope], name: str) -> None:
    """Make a key of the tenant (--tenant) and print it: it is shown once."""
    with Store.open(settings.db) as store:
        made = ApiKeys(store).create(
            datetime.now(UTC), tenant=settings.tenant, user=user, scopes=scopes, name=name
        )
    settings.show(made)


@keys.command("list")
@click.option("--all-tenants", is_flag=True, help="Of every tenant.")
@click.pass_obj
def list_keys(settings: Settings, all_tenants: bool) -> None:
    """Print the keys of the tenant; no secret is among what is printed."""
    with _existing(settings) as store:
        found = ApiKeys(store).list(None if all_tenants else settings.tenant)
    settings.show(found, "\n".join(map(str, found)) or "no keys")


@keys.command("revoke")
@click.argument("key_id")
@click.pass_obj
def revoke_key(settings: Settings, key_id: str) -> None:
    """Make a key of the tenant useless, by its id; running servers know within seconds."""
    with _existing(settings) as store:
        if not ApiKeys(store).revoke(key_id, datetime.now(UTC), tenant=settings.tenant):
            raise StoreError(
                f"tenant {settings.tenant!r} has no key {key_id!r} that is not revoked; "
                "see: persona-agent keys list"
            )
    settings.show({"revoked": key_id}, f"revoked {key_id}")


def _existing(settings: Settings) -> Store:
    """Open the store, which must be there: no command but `create` makes one."""
    if "://" not in settings.db and settings.db != ":memory:" and not Path(settings.db).exists():
        raise StoreError(f"there is no database {settings.db}; give its path with --db")
    return Store.open(settings.db)

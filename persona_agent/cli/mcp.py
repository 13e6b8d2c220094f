"""The command mcp: the memory of one user for a host that speaks the Model Context Protocol."""

from __future__ import annotations

import click

from persona_agent.agent import PersonaAgent
from persona_agent.cli.settings import Settings
from persona_agent.clients.memory_tools import MemoryTools
from persona_agent.errors import BackendError
from persona_agent.ports import Tool
from persona_agent.types import Scope


@click.command()
@click.option("--user", required=True, help="Whose memory this is; no call can name another.")
@click.option(
    "--recommender",
    type=click.Path(file_okay=False),
    help="Folder of a saved recommender: adds the tools recommend, explain, similar.",
)
@click.option(
    "--items",
    type=click.Path(dir_okay=False),
    help="CSV of its items: item, title, genres (separated by |), year.",
)
@click.option("--noun", default="item", show_default=True, help="What one item is called.")
@click.pass_obj
def mcp(
    settings: Settings, user: str, recommender: str | None, items: str | None, noun: str
) -> None:
    """Serve the memory of one user by MCP, on standard input and output.

    The tools are search, remember and persona, and with a saved recommender those of it, too. Needs
    the extra mcp. A host starts this command itself; it asks no model.
    """
    try:
        from persona_agent.clients.mcp import mcp_server, serve_stdio  # an extra
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{error.name} is not installed; run: pip install 'persona-agent-framework[mcp]'"
        ) from error
    if (recommender is None) != (items is None):
        raise click.UsageError("give --recommender and --items together, or neither")
    with settings.open(model=False) as agent:
        tools: list[Tool] = [*MemoryTools(agent).all]
        if recommender is not None and items is not None:
            tools += _recommending(agent, recommender, items, noun)
        serve_stdio(mcp_server(tools, Scope(user, settings.tenant)))


def _recommending(agent: PersonaAgent, folder: str, items: str, noun: str) -> list[Tool]:
    from persona_agent.bridge.catalogue import Catalogue  # heavy: an extra of its own
    from persona_agent.bridge.history import remembered
    from persona_agent.bridge.tools import RecommenderTools
    from persona_agent.recommend.readers import read_items
    from persona_agent.recommend.saved import open_saved

    model = open_saved(folder)
    catalogue = Catalogue(model.items, read_items(items), noun=noun)
    return [*RecommenderTools(model, catalogue, remembered(agent.memory.store, catalogue)).all]

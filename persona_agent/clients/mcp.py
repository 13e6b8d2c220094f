"""An MCP server: tools of ours for any host that speaks the Model Context Protocol, for one user."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from persona_agent import prompts
from persona_agent.ports import Tool
from persona_agent.types import Scope


def mcp_server(tools: Sequence[Tool], scope: Scope) -> Server[Any]:
    """Return a server that offers `tools`, each call being on behalf of `scope`.

    What a tool raises is its error reply, which the model reads. Raises ValueError for tools that
    share a name.
    """
    by_name = {tool.name: tool for tool in tools}
    if len(by_name) != len(tools):
        raise ValueError(f"tools share a name: {', '.join(tool.name for tool in tools)}")
    offered = [
        types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.parameters))
        for tool in tools
    ]

    async def list_tools(context: object, params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=offered)

    async def call_tool(
        context: object, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = by_name.get(params.name)
        if tool is None:
            known = ", ".join(by_name)
            return _said(f"there is no tool {params.name!r}; known: {known}", is_error=True)
        try:
            said = await anyio.to_thread.run_sync(tool.call, scope, params.arguments or {})
        except Exception as error:  # noqa: BLE001  # as the port has it: an error is a reply
            return _said(f"{type(error).__name__}: {error}", is_error=True)
        return _said(said)

    return Server(
        "persona-agent",
        version=version("persona-agent-framework"),
        instructions=prompts.text("mcp", "instructions"),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def serve_stdio(server: Server[Any]) -> None:
    """Serve one host on standard input and output until it closes them."""
    anyio.run(_serve, server)


async def _serve(server: Server[Any]) -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _said(text: str, *, is_error: bool = False) -> types.CallToolResult:
    content: list[Any] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, is_error=is_error)

"""Requests as routes read them: the service, who asks, headers, and a body of JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from persona_agent.serve.errors import bad
from persona_agent.serve.identity import Caller, user_scope
from persona_agent.serve.service import Service
from persona_agent.types import Scope


def service_of(request: Request) -> Service:
    """Return the running service."""
    return cast(Service, request.app.state.service)


def headers_of(request: Request) -> dict[str, str]:
    """Return the headers by lower-case name; what is UTF-8 is read as such."""
    return {
        name.decode("latin-1"): _text(value)
        for name, value in request.scope["headers"]  # by name already in lower case
    }


async def caller_of(request: Request) -> Caller:
    """Return who asks; raises ApiError 401."""
    service = service_of(request)
    headers = headers_of(request)
    caller = service.guard.cached(headers)
    if caller is None:
        caller = await service.call(service.guard.caller, headers)
    request.scope["state"]["caller"] = caller
    return caller


async def json_of(request: Request) -> Any:  # Any: a client's JSON
    """Return the body as JSON; raises ApiError 400."""
    raw = await request.body()
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise bad(f"the body is not JSON: {error}", code="invalid_json") from error


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number in JSON")


CallerDep = Annotated[Caller, Depends(caller_of)]


def scope_for(
    request: Request,
    caller: Caller,
    user_id: str | None,
    agent_id: str | None = None,
    run_id: str | None = None,
) -> Scope:
    """Return whom a request is about; an agent or run that it names goes before a header's.

    Raises ApiError: 404 for somebody else's user, 400 where nobody is named.
    """
    found = user_scope(caller, user_id, headers_of(request))
    if agent_id is None and run_id is None:
        return found
    return replace(found, agent=agent_id or found.agent, run=run_id or found.run)

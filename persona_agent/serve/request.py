"""Requests as routes read them: the service, who asks, headers, and a body of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from fastapi import Request

from persona_agent.serve.errors import bad
from persona_agent.serve.identity import Caller
from persona_agent.serve.service import Service


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


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping without what is None; Any: passed through."""
    return {key: value for key, value in values.items() if value is not None}

"""Operations: how far they are, and live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from persona_agent.memory.operations import Operation, UnknownOperation
from persona_agent.serve.identity import Caller
from persona_agent.serve.request import CallerDep, scope_for, service_of
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.service import Service
from persona_agent.serve.told import OperationTold
from persona_agent.types import Scope

router = APIRouter(prefix="/v1/operations", tags=["operations"], responses=ERRORS)

LOOK_S = 0.25  # between two looks at the store, for a listener
ALIVE_S = 15.0  # a comment that often keeps proxies from closing the stream


@router.get("/{operation_id}")
async def get_operation(request: Request, caller: CallerDep, operation_id: str) -> OperationTold:
    """Say how an operation stands."""
    service = service_of(request)
    return OperationTold.of(await _find(service, request, caller, operation_id))


@router.get(
    "/{operation_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events."}},
)
async def operation_events(
    request: Request, caller: CallerDep, operation_id: str
) -> StreamingResponse:
    """Tell each change of an operation as a server-sent event, until it has ended."""
    service = service_of(request)
    found = await _find(service, request, caller, operation_id)
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(
        _events(service, found), media_type="text/event-stream", headers=headers
    )


async def _find(service: Service, request: Request, caller: Caller, operation_id: str) -> Operation:
    if caller.user is None and "many-users" in caller.scopes:
        return await service.call(service.operations.find, caller.tenant, operation_id)
    scope = scope_for(request, caller, None)
    return await service.call(service.operations.get, scope, operation_id)


async def _events(service: Service, one: Operation) -> AsyncIterator[str]:
    told: str | None = None
    scope: Scope = one.scope
    quiet = 0.0
    while True:
        now = OperationTold.of(one).model_dump_json()
        if now != told:
            told, quiet = now, 0.0
            yield f"event: {one.state}\ndata: {now}\n\n"
        elif quiet >= ALIVE_S:
            quiet = 0.0
            yield ": still here\n\n"
        if one.ended or service.stopping:
            return
        await asyncio.sleep(LOOK_S)
        quiet += LOOK_S
        try:
            one = await service.call(service.operations.get, scope, one.id)
        except UnknownOperation:  # its user was forgotten
            yield f"event: gone\ndata: {json.dumps({'id': one.id})}\n\n"
            return

"""Personas: read one, see how it came to be, correct it, align it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from persona_agent.errors import PersonaConflict
from persona_agent.persona import Persona
from persona_agent.personas import PersonaHandle
from persona_agent.serve.given import (
    AlignGiven,
    Cursor,
    Limit,
    LockGiven,
    PersonaGiven,
    RollbackGiven,
)
from persona_agent.serve.learner import ALIGN
from persona_agent.serve.memories import IdempotencyKey
from persona_agent.serve.request import CallerDep, scope_for, service_of
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.service import Service
from persona_agent.serve.told import DiffTold, OperationTold, PersonaTold, Versions, line_of
from persona_agent.types import Scope

router = APIRouter(prefix="/v1/users", tags=["personas"], responses=ERRORS)

Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@router.get("/{user_id:path}/persona")
async def get_persona(request: Request, caller: CallerDep, user_id: str) -> PersonaTold:
    """Return the latest version of a user's persona."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    return PersonaTold.of(await service.call(lambda: _handle(service, scope).current))


@router.put("/{user_id:path}/persona")
async def set_persona(
    request: Request, caller: CallerDep, user_id: str, given: PersonaGiven
) -> PersonaTold:
    """Set the lines of a persona: a new version. Locked lines must stay.

    With `version`, only if that is still the latest: else 409.
    """
    service, scope = service_of(request), scope_for(request, caller, user_id)
    return PersonaTold.of(await service.call(_set, service, scope, given))


@router.get("/{user_id:path}/persona/versions")
async def persona_versions(
    request: Request, caller: CallerDep, user_id: str, limit: Limit = 50, cursor: Cursor = None
) -> Versions:
    """List the stored versions of a persona, latest first."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    found = (await service.call(lambda: _handle(service, scope).history()))[::-1]
    if cursor is not None:
        before = int(cursor) if cursor.isascii() and cursor.isdigit() else 0
        found = [one for one in found if one.version < before]
    after = str(found[limit - 1].version) if len(found) > limit else None
    return Versions(results=[PersonaTold.of(one) for one in found[:limit]], next=after)


@router.get("/{user_id:path}/persona/diff")
async def persona_diff(
    request: Request, caller: CallerDep, user_id: str, old: Version = None, new: Version = None
) -> DiffTold:
    """Tell what changed between two versions; by default in the latest change."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    found = await service.call(lambda: _handle(service, scope).diff(old, new))
    parts: dict[str, Any] = {  # Any: as the model takes it
        name: [line_of(line) for line in getattr(found, name)]
        for name in ("added", "removed", "locked", "unlocked")
    }
    return DiffTold(old_version=found.old_version, new_version=found.new_version, **parts)


@router.post("/{user_id:path}/persona/rollback")
async def roll_back(
    request: Request, caller: CallerDep, user_id: str, given: RollbackGiven
) -> PersonaTold:
    """Return to an earlier version, as a new one."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    return PersonaTold.of(
        await service.call(lambda: _handle(service, scope).rollback(given.version))
    )


@router.post("/{user_id:path}/persona/lock")
async def lock_line(
    request: Request, caller: CallerDep, user_id: str, given: LockGiven
) -> PersonaTold:
    """Lock a line, so that no alignment changes it, or unlock it."""
    service, scope = service_of(request), scope_for(request, caller, user_id)

    def change() -> Persona:
        handle = _handle(service, scope)
        return handle.lock(given.line) if given.locked else handle.unlock(given.line)

    return PersonaTold.of(await service.call(change))


@router.post("/{user_id:path}/persona/align", status_code=202)
async def align_persona(
    request: Request,
    caller: CallerDep,
    user_id: str,
    given: AlignGiven | None = None,
    idempotency_key: IdempotencyKey = None,
) -> OperationTold:
    """Ask for an alignment; what comes back says where to look how far it is.

    One that is under way is returned instead of a second one.
    """
    service, scope = service_of(request), scope_for(request, caller, user_id)
    wanted = (given or AlignGiven()).model_dump()
    operation_id = None
    if idempotency_key:
        text = json.dumps([scope.tenant, scope.user, ALIGN, idempotency_key])
        operation_id = hashlib.sha256(text.encode()).hexdigest()[:24]
    asked = await service.call(
        service.operations.ask,
        scope.owner,
        ALIGN,
        service.now(),
        options=wanted,
        operation_id=operation_id,
    )
    service.wake()
    return OperationTold.of(asked)


def _handle(service: Service, scope: Scope) -> PersonaHandle:
    return service.agent(scope.tenant).persona(scope.user)


def _set(service: Service, scope: Scope, given: PersonaGiven) -> Persona:
    handle = _handle(service, scope)
    current = handle.current
    if given.version is not None and given.version != current.version:
        raise PersonaConflict(
            f"the latest version is {current.version}, not {given.version}; read it and decide "
            "again"
        )
    return handle.set(given.lines)

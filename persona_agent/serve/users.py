"""One user: what a prompt should know, facts, operations, export, and being forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from persona_agent.errors import UnknownUser
from persona_agent.memory.fact_rows import all_facts, facts_of
from persona_agent.memory.forget import Receipt
from persona_agent.memory.transfer import export
from persona_agent.serve.given import Id, Text
from persona_agent.serve.journal import REJECTED
from persona_agent.serve.memories import zoned
from persona_agent.serve.request import CallerDep, scope_for, service_of
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.service import Service
from persona_agent.serve.told import (
    ContextTold,
    Facts,
    FactTold,
    Me,
    OperationsTold,
    OperationTold,
    ReceiptTold,
    UserKnown,
)
from persona_agent.serve.turns import is_of
from persona_agent.types import Fact, Scope

router = APIRouter(prefix="/v1", tags=["users"], responses=ERRORS)


@router.get("/me")
async def me(request: Request, caller: CallerDep) -> Me:
    """Say who the server takes the caller for, and what the caller may do."""
    return Me(
        tenant=caller.tenant, user_id=caller.user, key=caller.name, scopes=sorted(caller.scopes)
    )


@router.get("/users/{user_id:path}/context")
async def user_context(
    request: Request,
    caller: CallerDep,
    user_id: str,
    query: Annotated[Text, Query(min_length=1, description="What is going to be asked.")],
    max_tokens: Annotated[int, Query(ge=64, le=32_768)] = 1024,
) -> ContextTold:
    """Return what a prompt should know of a user for a question: for prompts of your own."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    agent = service.agent(scope.tenant)
    found = await service.call(agent.know, scope.user, query, max_tokens=max_tokens)
    return ContextTold(
        text=found.text,
        instructions=found.instructions,
        persona_version=found.persona_version,
        memories=[one.id for one in found.memories],
        facts=[one.id for one in found.facts],
    )


@router.get("/users/{user_id:path}/facts")
async def user_facts(
    request: Request,
    caller: CallerDep,
    user_id: str,
    as_of: Annotated[datetime | None, Query(description="Those held at a time.")] = None,
    every: Annotated[bool, Query(description="Those that hold no more, too.")] = False,
) -> Facts:
    """List the facts that hold about a user, oldest first."""
    service, scope = service_of(request), scope_for(request, caller, user_id)

    def read() -> list[Fact]:
        _known(service, scope)
        if every:
            return all_facts(service.store, scope)
        return facts_of(service.store, scope, zoned(as_of))

    found = await service.call(read)
    return Facts(results=[FactTold.model_validate(one.to_json()) for one in found])


@router.get("/users/{user_id:path}/operations")
async def user_operations(
    request: Request,
    caller: CallerDep,
    user_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> OperationsTold:
    """List a user's operations, latest first."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    found = await service.call(service.operations.list, scope.tenant, scope, limit=limit)
    return OperationsTold(results=[OperationTold.of(one) for one in found])


@router.get(
    "/users/{user_id:path}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}}, "description": "Lines of JSON."}},
)
async def export_user(request: Request, caller: CallerDep, user_id: str) -> StreamingResponse:
    """Give all that is kept about a user, as lines of JSON that `persona-agent import` reads."""
    service, scope = service_of(request), scope_for(request, caller, user_id)
    await service.call(_known, service, scope)

    def lines() -> Iterator[str]:
        for line in export(service.store, scope.owner):
            yield line + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.get("/users/{user_id:path}")
async def user_known(request: Request, caller: CallerDep, user_id: Id) -> UserKnown:
    """Say how much is kept about a user, in numbers."""
    service, scope = service_of(request), scope_for(request, caller, user_id)

    def read() -> UserKnown:
        head = service.personas.head(scope.owner)
        return UserKnown(
            user_id=scope.user,
            memories=service.store.count(scope.owner),
            facts=len(facts_of(service.store, scope)),
            persona_version=0 if head is None else head.version,
        )

    return await service.call(read)


@router.delete("/users/{user_id:path}")
async def forget_user(
    request: Request,
    caller: CallerDep,
    user_id: Id,
    dry_run: Annotated[bool, Query(description="Only tell what would go.")] = False,
    vacuum: Annotated[Literal["plain", "full"], Query(description="On PostgreSQL.")] = "plain",
) -> ReceiptTold:
    """Forget all about a user and return the receipt: what went, and what is beyond our reach.

    Forgetting somebody of whom nothing is stored is no error: the receipt says so.
    """
    service, scope = service_of(request), scope_for(request, caller, user_id)

    def work() -> Receipt:
        service.journal.drain(service.config.drain_s)  # what was said before is forgotten, too
        agent = service.agent(scope.tenant)
        receipt = agent.forget(scope.user, dry_run=dry_run, vacuum=vacuum)
        if not dry_run and service.shop is not None:
            service.shop.tools.forget(scope.owner)
        on_disk = _on_disk(service, scope)
        return replace(receipt, beyond_reach=(*receipt.beyond_reach, *on_disk))

    found = await service.call(work)
    return ReceiptTold.model_validate(found.to_json())


def _on_disk(service: Service, scope: Scope) -> Iterator[str]:
    """Yield what the journal's folder still holds of a user."""
    waiting, aside = service.journal.count(partial(is_of, scope))
    if waiting:
        yield f"turns that wait in the journal, to be dropped when it is their turn: {waiting}"
    if aside:
        yield f"turns that no store could hold, in {REJECTED} beside the journal: {aside}"


def _known(service: Service, scope: Scope) -> None:
    if not service.store.count(scope.owner):
        raise UnknownUser(f"nothing is stored about user {scope.user!r}; add interactions first")

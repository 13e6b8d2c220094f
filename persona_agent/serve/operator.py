"""Operators' routes: who is here, what waits, what failed, what it cost. Of one's own tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from persona_agent.memory.jobs import Job, Jobs
from persona_agent.memory.pages import page_of_users
from persona_agent.serve.given import Cursor, Given, Id, Limit
from persona_agent.serve.identity import Caller, needs_operator
from persona_agent.serve.request import caller_of, service_of
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.told import OperationsTold, OperationTold
from persona_agent.types import Usage


async def operator_of(request: Request) -> Caller:
    """Return the caller, who must be an operator: for anybody else there is no such route."""
    caller = await caller_of(request)
    needs_operator(caller)
    return caller


Operator = Annotated[Caller, Depends(operator_of)]
router = APIRouter(prefix="/v1/operator", tags=["operators"], responses=ERRORS)


class UserTold(BaseModel):
    """A user: how many memories and facts, the persona's version, since when, the latest."""

    user_id: str
    memories: int
    facts: int
    persona_version: int
    created: datetime
    latest: datetime | None


class UsersTold(BaseModel):
    """Users by their ids, and the cursor of the next page."""

    results: list[UserTold]
    next: str | None


class JobTold(BaseModel):
    """A job: background work that a write asked for."""

    id: str
    kind: str
    user_id: str
    state: Literal["waiting", "running", "retry", "dead"]
    attempts: int
    due: datetime
    error: str | None


class JobsTold(BaseModel):
    """Jobs, oldest first, and how many there are in each state."""

    results: list[JobTold]
    counts: dict[str, int]


class RetryGiven(Given):
    """Dead jobs to run again; all of the tenant's without ids."""

    ids: list[Id] | None = Field(default=None, max_length=1000)


class Retried(BaseModel):
    """How many jobs run again."""

    retried: int


class KeyTold(BaseModel):
    """A key, without its secret."""

    id: str
    user: str | None
    name: str
    scopes: list[str]
    created: datetime
    revoked: datetime | None


class KeysTold(BaseModel):
    """Keys, oldest first."""

    results: list[KeyTold]


class CostTold(BaseModel):
    """What alignments asked of the model and how long they took, and what all learning of this
    process asked since it started."""

    alignments: int
    seconds: float
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    learning_tokens_since_start: int
    turns_waiting: int


@router.get("/users")
async def users(
    request: Request,
    caller: Operator,
    limit: Limit = 50,
    cursor: Cursor = None,
    starting: Annotated[Id | None, Query(description="How the ids of users begin.")] = None,
) -> UsersTold:
    """List the users of the tenant."""
    service = service_of(request)
    found, after = await service.call(
        page_of_users,
        service.store,
        caller.tenant,
        limit=limit,
        cursor=cursor,
        starting=starting or "",
    )
    rows = [
        UserTold(
            user_id=one.user,
            memories=one.memories,
            facts=one.facts,
            persona_version=one.persona_version,
            created=one.created,
            latest=one.latest,
        )
        for one in found
    ]
    return UsersTold(results=rows, next=after)


@router.get("/jobs")
async def jobs(
    request: Request,
    caller: Operator,
    state: Annotated[Literal["waiting", "running", "retry", "dead"] | None, Query()] = None,
    limit: Limit = 50,
) -> JobsTold:
    """List background jobs; `dead` ones failed too often and wait for a retry."""
    worker = Jobs(service_of(request).store)

    def read() -> tuple[list[Job], dict[str, int]]:
        found = worker.list(tenant=caller.tenant, state=state, limit=limit)
        return found, worker.counts(caller.tenant)

    shown, counts = await service_of(request).call(read)
    return JobsTold(
        results=[
            JobTold(
                id=one.id,
                kind=one.kind,
                user_id=one.scope.user,
                state=one.state,
                attempts=one.attempts,
                due=one.due,
                error=one.error,
            )
            for one in shown
        ],
        counts=counts,
    )


@router.post("/jobs/retry")
async def retry(request: Request, caller: Operator, given: RetryGiven) -> Retried:
    """Let dead jobs run again from their first attempt."""
    service = service_of(request)
    worker = Jobs(service.store)
    done = await service.call(lambda: worker.retry(service.now(), given.ids, tenant=caller.tenant))
    service.wake()
    return Retried(retried=done)


@router.get("/operations")
async def operations(request: Request, caller: Operator, limit: Limit = 50) -> OperationsTold:
    """List the latest operations of the tenant."""
    service = service_of(request)
    found = await service.call(service.operations.list, caller.tenant, limit=limit)
    return OperationsTold(results=[OperationTold.of(one) for one in found])


@router.get("/keys")
async def keys(request: Request, caller: Operator) -> KeysTold:
    """List the tenant's keys; they are made and revoked by `persona-agent keys`."""
    service = service_of(request)
    found = await service.call(service.keys.list, caller.tenant)
    rows = [
        KeyTold(
            id=one.id,
            user=one.user,
            name=one.name,
            scopes=list(one.scopes),
            created=one.created,
            revoked=one.revoked,
        )
        for one in found
    ]
    return KeysTold(results=rows)


@router.get("/cost")
async def cost(request: Request, caller: Operator) -> CostTold:
    """Tell what the latest thousand operations of the tenant asked of the model."""
    service = service_of(request)
    found = await service.call(service.operations.list, caller.tenant, limit=1000)
    total, done, seconds = Usage(), 0, 0.0
    for one in found:
        result = one.result if isinstance(one.result, dict) else {}
        used = result.get("usage")
        if isinstance(used, dict):
            done += 1
            total += Usage(**{key: int(str(value)) for key, value in used.items()})
            seconds += float(str(result.get("seconds", 0)))
    return CostTold(
        alignments=done,
        seconds=round(seconds, 3),
        requests=total.requests,
        prompt_tokens=total.prompt_tokens,
        cached_tokens=total.cached_tokens,
        completion_tokens=total.completion_tokens,
        learning_tokens_since_start=service.learned_tokens,
        turns_waiting=service.journal.waiting,
    )

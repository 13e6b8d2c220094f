"""Memories: add, list, search, get, change, delete, and what happened to one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from persona_agent.errors import UnknownInteraction
from persona_agent.memory.pages import Filter, page_of
from persona_agent.memory.rows import Change
from persona_agent.records import TICK, chat
from persona_agent.serve.errors import bad
from persona_agent.serve.given import (
    AddGiven,
    ChangeGiven,
    Cursor,
    FeedbackGiven,
    Filters,
    Ids,
    Limit,
    MemoryGiven,
    SearchGiven,
    UserId,
)
from persona_agent.serve.request import CallerDep, scope_for, service_of
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.service import Service
from persona_agent.serve.told import AddedMany, Changes, Found, FoundMany, Memory, MemoryPage
from persona_agent.types import Interaction, RecallRequest, Scope

router = APIRouter(prefix="/v1", tags=["memories"], responses=ERRORS)

IdempotencyKey = Annotated[str | None, Header(max_length=255)]
MOST_TOKENS = 1_000_000
WIDEST = 1000  # memories ranked before filters that the index does not know


@router.post("/memories")
async def add_memories(
    request: Request,
    caller: CallerDep,
    given: AddGiven,
    idempotency_key: IdempotencyKey = None,
) -> AddedMany:
    """Remember chat messages and interactions; the answer comes when they are durable."""
    service = service_of(request)
    scope = scope_for(request, caller, given.user_id, given.agent_id, given.run_id)
    events = _read(given, scope, service.now())
    if not events:
        raise bad("there is nothing to remember: give messages or memories", param="messages")
    added = await service.call(
        service.memory.add, events, service.now(), idempotency_key=idempotency_key or None
    )
    return AddedMany.model_validate({"results": [one.to_json() for one in added]})


@router.get("/memories")
async def list_memories(
    request: Request,
    caller: CallerDep,
    user_id: UserId = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    ids: Ids = None,
) -> MemoryPage:
    """List a user's memories, or those of some ids, latest first, a page at a time."""
    service = service_of(request)
    scope = scope_for(request, caller, user_id)
    wanted = Filter(None if ids is None else tuple(ids))
    page = await service.call(
        page_of, service.store, scope, limit=limit, cursor=cursor, wanted=wanted
    )
    return MemoryPage(results=[Memory.of(one) for one in page.interactions], next=page.next)


@router.post("/memories/search")
async def search_memories(request: Request, caller: CallerDep, given: SearchGiven) -> FoundMany:
    """Search a user's memories and facts, best first."""
    service = service_of(request)
    scope = scope_for(request, caller, given.user_id, given.filters.agent_id, given.filters.run_id)
    return FoundMany(results=await service.call(_search, service, scope, given))


@router.get("/memories/{memory_id:path}/history")
async def memory_history(
    request: Request, caller: CallerDep, memory_id: str, user_id: UserId = None
) -> Changes:
    """Tell what happened to a memory, oldest first."""
    service = service_of(request)
    scope = scope_for(request, caller, user_id)
    found = await service.call(service.store.history, scope, memory_id)
    return Changes.model_validate({"results": [_change(one) for one in found]})


@router.get("/memories/{memory_id:path}")
async def get_memory(
    request: Request, caller: CallerDep, memory_id: str, user_id: UserId = None
) -> Memory:
    """Return one memory."""
    service = service_of(request)
    scope = scope_for(request, caller, user_id)
    return Memory.of(await service.call(service.store.get, scope, memory_id))


@router.patch("/memories/{memory_id:path}")
async def change_memory(
    request: Request, caller: CallerDep, memory_id: str, given: ChangeGiven
) -> Memory:
    """Correct a memory; what it was stays in its history."""
    service = service_of(request)
    scope = scope_for(request, caller, given.user_id)
    changes = given.model_dump(exclude={"user_id"}, exclude_none=True)
    if not changes:
        raise bad("there is nothing to change: give query, response, outcome or metadata")
    changed = await service.call(service.memory.update, scope, memory_id, changes, service.now())
    return Memory.of(changed)


@router.delete("/memories/{memory_id:path}", status_code=204, response_class=Response)
async def delete_memory(
    request: Request, caller: CallerDep, memory_id: str, user_id: UserId = None
) -> Response:
    """Delete a memory, and what rested on it alone."""
    service = service_of(request)
    scope = scope_for(request, caller, user_id)
    await service.call(service.memory.delete, scope, memory_id, service.now())
    return Response(status_code=204)


@router.post("/feedback")
async def give_feedback(request: Request, caller: CallerDep, given: FeedbackGiven) -> Memory:
    """Say what came of an answer: `accepted`, `rejected`, a rating, the user's own words."""
    service = service_of(request)
    scope = scope_for(request, caller, given.user_id)
    metadata: dict[str, Any] = {} if given.comment is None else {"comment": given.comment}
    wanted = (scope, given.id, given.outcome, metadata)
    try:
        found = await service.call(service.turns.feedback, *wanted)
    except UnknownInteraction:  # said a moment ago: it may be on the disk, but not stored yet
        await service.call(service.journal.drain, service.config.memory.deadline_s)
        found = await service.call(service.turns.feedback, *wanted)
    return Memory.of(found)


def _search(service: Service, scope: Scope, given: SearchGiven) -> list[Found]:
    wanted = _filter(given.filters)
    narrow = wanted != Filter()
    asked = RecallRequest(
        scope,
        given.mode,
        given.query,
        WIDEST if narrow else given.top_k,
        MOST_TOKENS,
        explain=given.explain,
        kinds=tuple(dict.fromkeys(given.kinds)),
    )
    (reply,) = service.memory.recall([asked])
    hits = [hit for hit in reply.memories if not narrow or _fits(hit.interaction, wanted)]
    return [Found.of(hit) for hit in hits[: given.top_k]]


def _filter(given: Filters) -> Filter:
    return Filter(
        None if given.ids is None else tuple(given.ids),
        None if given.roles is None else tuple(given.roles),
        zoned(given.since),
        zoned(given.until),
    )


def _fits(one: Interaction, wanted: Filter) -> bool:
    return (
        (wanted.ids is None or one.id in wanted.ids)
        and (wanted.roles is None or one.role in wanted.roles)
        and (wanted.since is None or one.when >= wanted.since)
        and (wanted.until is None or one.when < wanted.until)
    )


def _read(given: AddGiven, scope: Scope, now: datetime) -> list[Interaction]:
    talk = [one.model_dump() for one in given.messages]
    events = chat(talk, scope=scope, now=now, metadata=given.metadata)
    for one in given.memories:
        events.append(_interaction(one, scope, now + len(events) * TICK, given.metadata))
    return events


def _interaction(
    given: MemoryGiven, scope: Scope, now: datetime, metadata: dict[str, Any]
) -> Interaction:  # Any: JSON
    return Interaction(
        scope,
        zoned(given.when) or now,
        given.query,
        given.outcome,
        given.response,
        given.role,
        given.item,
        tuple(given.options),
        {**metadata, **given.metadata},
        given.id or "",
    )


def zoned(when: datetime | None) -> datetime | None:
    """Return a time with a zone: without one it is taken as UTC. Raises ApiError."""
    if when is None:
        return None
    try:
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise bad(f"{when.isoformat()} leaves the calendar in UTC", param="when") from error


def _change(one: Change) -> dict[str, Any]:  # Any: as the model takes it
    return {
        "at": one.at,
        "action": one.action,
        "old": None if one.old is None else Memory.of(one.old),
        "new": None if one.new is None else Memory.of(one.new),
    }

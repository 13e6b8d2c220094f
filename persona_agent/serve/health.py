"""Is it alive, can it work, and its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from persona_agent.errors import PersonaAgentError
from persona_agent.serve.errors import ApiError
from persona_agent.serve.metrics import CONTENT_TYPE
from persona_agent.serve.request import service_of

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/ready", responses={503: {"description": "Some part cannot be used."}})
async def ready(request: Request) -> Response:
    """Say whether store, embedder and model can be used; 503 if the store or the model cannot.

    503 as well while the embedder is being loaded. One that cannot be loaded keeps nobody waiting:
    answers come without memory.
    """
    service = service_of(request)
    parts: dict[str, Any] = {}

    def store() -> None:
        with service.store.snapshot() as snapshot:
            snapshot.heads([(service.config.tenant, "-")])

    async def embedder() -> None:
        if not service.loading:
            await service.call(service.memory.embedder.embed, ["ready"])

    checks = {
        "store": lambda: service.call(store),
        "embedder": embedder,
        "model": service.upstream.models,
    }
    for name, check in checks.items():
        try:
            await check()
            parts[name] = "ok"
        except (PersonaAgentError, ApiError) as error:
            parts[name] = type(error).__name__ if name != "model" else str(error)
    if service.loading:
        parts["embedder"] = "loading"
    parts["turns_waiting"] = service.journal.waiting
    works = parts["store"] == parts["model"] == "ok" and not service.loading
    told = {"status": "ready" if works else "not ready", "parts": parts}
    return JSONResponse(told, status_code=200 if works else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Give the figures as Prometheus reads them."""
    service = service_of(request)
    if not service.config.metrics:
        raise ApiError(404, "metrics are off", kind="not_found_error", code="not_found")
    service.metrics.index_bytes.set(service.memory.index.nbytes)
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)

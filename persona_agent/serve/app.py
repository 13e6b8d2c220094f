"""The application: routes, errors, and what surrounds every request."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from persona_agent.errors import PersonaAgentError
from persona_agent.serve import (
    chat,
    health,
    memories,
    openai,
    operations,
    operator,
    personas,
    recommendations,
    users,
)
from persona_agent.serve.around import Around
from persona_agent.serve.config import Config
from persona_agent.serve.description import description
from persona_agent.serve.errors import ApiError, meaning, response
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.service import Parts, Service, running, utc_now
from persona_agent.serve.webpage import page_router

log = logging.getLogger("persona_agent.serve")

ROUTERS = (
    chat.router,
    openai.router,
    memories.router,
    personas.router,
    users.router,
    operations.router,
    recommendations.router,
    operator.router,
    health.router,
)


def create_app(
    config: Config, parts: Parts = Parts(), *, clock: Callable[[], datetime] = utc_now
) -> FastAPI:
    """Return the application; its parts are opened when it starts, and closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(Service(config, parts, clock=clock)) as service:
            app.state.service = service
            yield

    app = FastAPI(
        title="persona_agent",
        summary="OpenAI's API with a memory of each user.",
        version="1",
        lifespan=lifespan,
        responses=ERRORS,
    )
    app.openapi = partial(description, app)  # type: ignore[method-assign]  # as FastAPI's manual does
    for router in ROUTERS:
        app.include_router(router)
    if config.page:
        app.include_router(page_router(config))
    app.add_middleware(Around, max_body_bytes=config.max_body_bytes)
    for kind in (ApiError, PersonaAgentError, ValueError, KeyError, Exception):
        app.add_exception_handler(kind, _tell)
    app.add_exception_handler(RequestValidationError, _tell_validation)
    app.add_exception_handler(HTTPException, _tell_http)
    return app


async def _tell(request: Request, error: Exception) -> Response:
    told = meaning(error)
    if told.status >= 500 and not isinstance(error, ApiError):
        log.error("a request failed", exc_info=error, extra={"path": request.url.path})
    return response(told)


async def _tell_validation(request: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    said = str(first.get("msg", "the request is wrong"))
    return response(
        ApiError(
            400, f"{where}: {said}" if where else said, param=where or None, code="invalid_value"
        )
    )


async def _tell_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = str(error.detail) if isinstance(error, HTTPException) else "failed"
    headers = error.headers if isinstance(error, HTTPException) else None
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    return response(ApiError(status, said, kind=kind, code=kind[:-6], headers=headers))

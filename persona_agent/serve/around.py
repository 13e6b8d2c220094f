"""What surrounds every request: its id, its bounds, its line in the log and its place in the figures.

Plain ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persona_agent.serve.errors import ApiError, response

log = logging.getLogger("persona_agent.access")

ID = re.compile(r"[\w.-]{1,64}", re.ASCII)


class Around:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._most = max_body_bytes
        self._told = f"the body is longer than {max_body_bytes} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request within these bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._told)  # the kind that FastAPI lets through
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"], (b"x-persona-request-id", request_id.encode())
                ]  # fmt: skip
            await send(message)

        try:
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._most:
                told = response(ApiError(413, self._told, code="invalid_request"))
                await told(scope, receive, noted)
            else:
                await self._app(scope, bounded, noted)
        finally:
            self._note(scope, status, time.perf_counter() - begun, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        """Count and log the request; a route's pattern is named, never the ids in its path."""
        route: Any = scope.get("route")
        path = getattr(route, "path", "unknown")
        service = getattr(scope["app"].state, "service", None) if "app" in scope else None
        if service is not None:
            service.metrics.requests.labels(path, scope["method"], str(status)).inc()
            service.metrics.seconds.labels(path).observe(seconds)
        caller = scope["state"].get("caller")
        told = {
            "request_id": request_id,
            "method": scope["method"],
            "route": path,
            "status": status,
            "ms": round(1000 * seconds, 1),
            "tenant": caller.tenant if caller else None,
            "key": caller.name if caller else None,
        }
        if service is not None and service.config.log_user_text:
            told |= {"path": scope["path"], "user": caller.user if caller else None}
        log.info("request", extra=told)

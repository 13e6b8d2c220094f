"""The OpenAPI description, as this server really answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"bearer": []}]
OPEN = ("/health", "/ready")


def description(app: FastAPI) -> dict[str, Any]:
    """Return the description, made once: keys are wanted, and what is wrong is a 400."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, methods in made["paths"].items():
            for operation in methods.values():
                operation["responses"].pop("422", None)
                if path not in OPEN:
                    operation["security"] = SECURITY
        for unused in ("HTTPValidationError", "ValidationError"):
            parts.get("schemas", {}).pop(unused, None)
        app.openapi_schema = made
    return app.openapi_schema

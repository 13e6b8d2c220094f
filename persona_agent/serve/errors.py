"""Errors as clients see them: in the form of OpenAI's API, with a code that programs can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fastapi.responses import JSONResponse

from persona_agent.errors import (
    BackendError,
    BackendTimeout,
    BudgetExceeded,
    IdempotencyConflict,
    InputError,
    NotEnoughData,
    PersonaAgentError,
    PersonaConflict,
    RateLimited,
    StoreError,
    UnknownInteraction,
    UnknownUser,
)
from persona_agent.memory.operations import UnknownOperation
from persona_agent.types import Json

Told: TypeAlias = tuple[int, str, str]  # status, type, code

# The first that fits, so subclasses stand before what they are.
MEANINGS: tuple[tuple[type[Exception], Told], ...] = (
    (UnknownUser, (404, "not_found_error", "user_not_found")),
    (UnknownInteraction, (404, "not_found_error", "memory_not_found")),
    (UnknownOperation, (404, "not_found_error", "operation_not_found")),
    (PersonaConflict, (409, "conflict_error", "persona_conflict")),
    (IdempotencyConflict, (409, "conflict_error", "idempotency_conflict")),
    (NotEnoughData, (409, "conflict_error", "not_enough_data")),
    (InputError, (400, "invalid_request_error", "invalid_value")),
    (RateLimited, (429, "rate_limit_error", "rate_limited")),
    (BudgetExceeded, (429, "rate_limit_error", "budget_exceeded")),
    (BackendTimeout, (504, "upstream_error", "upstream_timeout")),
    (BackendError, (502, "upstream_error", "upstream_failed")),
    (StoreError, (503, "server_error", "store_unavailable")),
    (PersonaAgentError, (500, "server_error", "failed")),
    (ValueError, (400, "invalid_request_error", "invalid_value")),
    (KeyError, (404, "not_found_error", "not_found")),
)


class ApiError(Exception):
    """An answer that is an error: what a route raises to end a request."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Return the error for a request that is wrong."""
    return ApiError(400, message, param=param, code=code)


def nobody(user: str) -> ApiError:
    """Return the error for a user of whom nothing is known, or who is not the caller's.

    The two are told in the same words, so that nobody learns who else is here.
    """
    return ApiError(
        404,
        f"nothing is stored about user {user!r}; add interactions first",
        kind="not_found_error",
        code="user_not_found",
    )


def meaning(error: Exception) -> ApiError:
    """Return how an error of ours is told to a client."""
    if isinstance(error, ApiError):
        return error
    for kind, (status, name, code) in MEANINGS:
        if isinstance(error, kind):
            # str() of a KeyError is the repr of its message
            said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            return ApiError(status, said, kind=name, code=code)
    return ApiError(500, "the server failed; its log says why", kind="server_error", code="failed")


def body(error: ApiError) -> dict[str, Json]:
    """Return the JSON of an error, as OpenAI's clients read it."""
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
    }


def response(error: ApiError) -> JSONResponse:
    """Return the response of an error."""
    return JSONResponse(body(error), status_code=error.status, headers=error.headers)

"""What the OpenAPI description says of bodies that routes read by themselves, and of errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What went wrong: a sentence for people, a type and a code for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error, as OpenAI's API tells it."""

    error: ErrorDetail


def _error(text: str) -> dict[str, Any]:
    return {"model": ErrorBody, "description": text}


# Any: the shape that FastAPI wants. 400 stands for FastAPI's own 422, too.
ERRORS: dict[int | str, dict[str, Any]] = {
    400: _error("The request is wrong."),
    401: _error("No key, or one that is not known."),
    404: _error("There is none, or it is not yours."),
    409: _error("It is in conflict with what is stored."),
    413: _error("The body is too long."),
    429: _error("Too much was asked."),
    500: _error("The server failed."),
    502: _error("The model behind this server failed."),
    503: _error("The store cannot be used now."),
    504: _error("The model behind this server did not answer in time."),
}

_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "object"}},
                {"type": "null"},
            ]
        },
    },
}
CHAT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "messages"],
                    "properties": {
                        "model": {"type": "string", "minLength": 1},
                        "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
                        "stream": {"type": ["boolean", "null"]},
                        "user": {"type": "string", "description": "For whom; see the manual."},
                    },
                    "additionalProperties": True,
                }
            }
        },
    }
}
EMBEDDINGS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "input"],
                    "properties": {
                        "model": {"type": "string", "minLength": 1},
                        "input": {
                            "anyOf": [
                                {"type": "string", "minLength": 1},
                                {
                                    "type": "array",
                                    "minItems": 1,
                                    "maxItems": 2048,
                                    "items": {"type": "string", "minLength": 1},
                                },
                            ]
                        },
                    },
                    "additionalProperties": True,
                }
            }
        },
    }
}

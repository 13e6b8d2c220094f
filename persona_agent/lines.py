"""Lines of text as a model is asked for them: the schema of the answer, and reading it."""

from __future__ import annotations

from persona_agent.types import Json, ModelReply


def lines_schema(most: int, max_chars: int = 160) -> dict[str, Json]:
    """Return the schema of an object with one to `most` lines of at most `max_chars` characters."""
    return {
        "type": "object",
        "properties": {
            "lines": {
                "type": "array",
                "items": {"type": "string", "maxLength": max_chars},
                "minItems": 1,
                "maxItems": most,
            }
        },
        "required": ["lines"],
        "additionalProperties": False,
    }


def texts_of(reply: ModelReply) -> list[str]:
    """Return the lines of a reply under the schema; none if it is not of that form."""
    if reply.error is not None or not isinstance(reply.parsed, dict):
        return []
    lines = reply.parsed.get("lines")
    return [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []

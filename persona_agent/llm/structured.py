"""The ladder down which an answer that should be JSON is caught, shared by every backend.

Whole JSON of the schema; else without reasoning and code fences; else repaired; else the items
of arrays that fit; else a failed reply. Each rung below the second is told in `salvaged`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from persona_agent.errors import ReplyFormatError
from persona_agent.types import Json, ModelReply, ModelRequest, Usage

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

Schema: TypeAlias = Mapping[str, Json]

SCHEMAS_KEPT = 256
MAX_TOLD = 16  # what was dropped beyond this is counted, not named
_FENCE = re.compile(r"\A\s*```\w*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_REASONING = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)


def answer_part(text: str) -> str:
    """Return `text` without reasoning before it and a code fence around it.

    Reasoning that never ends leaves nothing; reasoning whose beginning the template wrote ends at
    its end mark.

    >>> answer_part("<think>well</think>```json\\n{}\\n```")
    '{}'
    >>> answer_part("<think>well, {}")
    ''
    """
    rest = without_reasoning(text)
    if rest == text:
        rest = text.rpartition("</think>")[2]
    rest = rest.strip()
    fenced = _FENCE.match(rest)
    return fenced.group(1).strip() if fenced else rest


def without_reasoning(text: str) -> str:
    """Return `text` without the reasoning it begins with; unchanged if it begins otherwise.

    >>> without_reasoning("<think>well</think> yes"), without_reasoning("say <think>")
    (' yes', 'say <think>')
    """
    return _REASONING.sub("", text, count=1)


def json_reply(
    text: str, finish: Literal["stop", "length"], usage: Usage, schema: Schema | None
) -> ModelReply:
    """Return the reply to a request with a schema: `parsed`, or an error that says why not.

    `salvaged` tells what was repaired or dropped to get there. What was cut off is never
    repaired: half a statement may say the opposite. The text is kept in either case, without
    reasoning and fences, and so is a value that does not fit the schema.
    """
    plain = text if _loads(text) is not None else answer_part(text)
    value: Json = None
    try:
        value, told = _value(plain, finish, usage)
        if schema is not None:
            value, dropped = fitted(value, schema)
            told = [*told, *dropped]
    except ReplyFormatError as error:
        why = f"ReplyFormatError: {error}"
        return ModelReply(plain, value, finish=finish, usage=usage, error=why)
    return ModelReply(plain, value, finish=finish, usage=usage, salvaged=tuple(told))


def fitted(value: Json, schema: Schema) -> tuple[Json, list[str]]:
    """Return `value` without the items of arrays that do not fit the schema, and what was wrong.

    A list item that holds something wrong goes as a whole. Raises ReplyFormatError if what is
    left does not fit, or if the schema itself is wrong.
    """
    validator = _validator(json.dumps(dict(schema), sort_keys=True))
    wrong = _problems(validator, value)
    if not wrong:
        return value, []
    places = {place for path, _ in wrong if (place := _outermost_item(path)) is not None}
    left = _without(value, places)
    remaining = _problems(validator, left)
    if remaining:
        path, why = remaining[0]
        raise ReplyFormatError(f"the answer does not fit the schema: {_where(path)}: {why}")
    told = [
        f"dropped {_where(place)}: {next(why for path, why in wrong if path[: len(place)] == place)}"
        for place in sorted(places, key=str)
    ]
    if len(told) > MAX_TOLD:
        told = [*told[:MAX_TOLD], f"dropped {len(told) - MAX_TOLD} more"]
    return left, told


def larger(request: ModelRequest, reply: ModelReply) -> ModelRequest | None:
    """Return the request with twice the tokens if JSON was cut off for want of them, else None."""
    if request.schema is None or reply.finish != "length":
        return None
    sampling = replace(request.sampling, max_tokens=2 * request.sampling.max_tokens)
    return replace(request, sampling=sampling)


def second(first: ModelReply, again: ModelReply) -> ModelReply:
    """Return the reply of a second try, with the cost of both; the first if the second failed.

    One request was asked, so one is counted.
    """
    usage = replace(first.usage + again.usage, requests=first.usage.requests)
    return replace(first if again.finish == "error" else again, usage=usage)


def with_second_try(
    complete: Callable[[Sequence[ModelRequest]], list[ModelReply]],
    requests: Sequence[ModelRequest],
) -> list[ModelReply]:
    """Return what `complete` replies; JSON that was cut off is asked for once more, with twice the
    tokens, in one further batch.
    """
    replies = complete(requests)
    again = {
        place: more
        for place, (request, reply) in enumerate(zip(requests, replies, strict=True))
        if (more := larger(request, reply)) is not None
    }
    if again:
        for place, reply in zip(again, complete(list(again.values())), strict=True):
            replies[place] = second(replies[place], reply)
    return replies


def shortened(text: str, limit: int = 200) -> str:
    """Return `text` in quotes for an error message, its middle left out when it is long."""
    if len(text) <= limit:
        return repr(text)
    return f"{text[: limit // 2]!r} ... {text[-limit // 2 :]!r} ({len(text)} characters)"


def _value(text: str, finish: Literal["stop", "length"], usage: Usage) -> tuple[Json, list[str]]:
    """Return the JSON value of a text, and how it was repaired."""
    found = _loads(text)
    if found is not None:
        return found[0], []
    if finish == "length":
        raise ReplyFormatError(
            f"the JSON was cut off after {usage.completion_tokens} tokens; raise max_tokens, or "
            "ask for less"
        )
    from json_repair import repair_json  # only needed when something is broken

    # Typed as any JSON; an empty text is its way to say that there was none.
    value: Json = repair_json(text, return_objects=True, skip_json_loads=True)
    if not isinstance(value, (dict, list)):
        raise ReplyFormatError(f"the answer is not JSON: {shortened(text)}")
    return value, [f"repaired {shortened(text)}"]


def _loads(text: str) -> tuple[Json] | None:
    """Return the JSON value in a tuple of one, for a value may be null; None for no JSON."""
    try:
        return (json.loads(text, parse_constant=_refuse),)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


@lru_cache(SCHEMAS_KEPT)
def _validator(schema: str) -> Draft202012Validator:
    # Loaded late: 60 ms that nobody pays who asks for no JSON.
    import jsonschema
    import referencing

    try:
        jsonschema.Draft202012Validator.check_schema(json.loads(schema))
    except jsonschema.SchemaError as error:
        raise ReplyFormatError(
            f"the schema of the request is wrong at {error.json_path}: {error.message}"
        ) from error
    # With a registry of its own it fetches nothing, whatever a schema refers to.
    return jsonschema.Draft202012Validator(json.loads(schema), registry=referencing.Registry())


_Path: TypeAlias = tuple[str | int, ...]


def _problems(validator: Draft202012Validator, value: Json) -> list[tuple[_Path, str]]:
    import referencing.exceptions

    try:
        return [
            (tuple(error.absolute_path), shortened(error.message).strip("\"'"))
            for error in validator.iter_errors(value)
        ]
    except referencing.exceptions.Unresolvable as error:
        raise ReplyFormatError(
            f"the schema of the request refers to {error.ref!r}, which it does not hold"
        ) from error


def _outermost_item(path: _Path) -> _Path | None:
    """Return the path of the outermost list item on the way; None if there is none."""
    return next((path[: i + 1] for i, step in enumerate(path) if isinstance(step, int)), None)


def _without(value: Json, places: set[_Path], here: _Path = ()) -> Json:
    if isinstance(value, list):
        return [
            _without(item, places, (*here, i))
            for i, item in enumerate(value)
            if (*here, i) not in places
        ]
    if isinstance(value, dict):
        return {key: _without(item, places, (*here, key)) for key, item in value.items()}
    return value


def _where(path: _Path) -> str:
    """Return a path in words.

    >>> _where(("facts", 2, "text")), _where(())
    ('facts[2].text', 'the answer')
    """
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return steps.lstrip(".") or "the answer"

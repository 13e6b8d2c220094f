"""From outside data to interactions: chat messages, mappings, JSONL and CSV, each line checked.

This is the border: what cannot be read is an InputError that names the place, what is wrong, and
what would be right. Unknown keys are refused, not dropped.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from persona_agent.errors import InputError
from persona_agent.types import Interaction, Json, Record, Role, Scope

Format: TypeAlias = Literal["jsonl", "csv"]

KEYS = (
    "user",
    "agent",
    "run",
    "id",
    "when",
    "query",
    "response",
    "outcome",
    "role",
    "item",
    "options",
    "metadata",
)
ALIASES = {"user_id": "user", "agent_id": "agent", "run_id": "run", "timestamp": "when"}
TICK = timedelta(microseconds=1)  # between the turns of one call, so that order is time
MAX_EPOCH_SECONDS = 1e11  # above it a number of seconds is past the year 5000: milliseconds
MESSAGE_KEYS = ("role", "content", "tool_call_id")  # the last names a call, nothing to remember
DAY = re.compile(r"\d{8}")
WHOLE = re.compile(r"(-?\d+)\.0+")


@dataclass(frozen=True, slots=True)
class Unread(Record):
    """A line that could not be read: its number, from 1, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch(Record):
    """The interactions read from a file, and the lines that could not be."""

    interactions: tuple[Interaction, ...]
    unread: tuple[Unread, ...]


def read_lines(
    text: str, form: Format, *, scope: Scope | None, now: datetime, tenant: str = "default"
) -> Batch:
    """Return the interactions of a JSONL or CSV text.

    `scope` gives the user where a line names none. CSV needs a header; its columns are the keys
    of an interaction, `metadata` as a JSON object, other columns become metadata, `options` are
    separated by `|`. An outcome that CSV writes as 4.0 is the rating 4. A byte order mark is
    left out. A line's number is that of its first line of text.
    """
    text = text.removeprefix("\ufeff")
    interactions: list[Interaction] = []
    unread: list[Unread] = []
    rows = _json_rows(text) if form == "jsonl" else _csv_rows(text)
    for line, row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            one = interaction(row, scope=scope, now=now, tenant=tenant)
        except InputError as error:
            unread.append(Unread(line, str(error)))
        else:
            interactions.append(one)
    return Batch(tuple(interactions), tuple(unread))


def interaction(
    row: Mapping[str, Any], *, scope: Scope | None, now: datetime, tenant: str = "default"
) -> Interaction:
    """Return the interaction that a mapping describes; `now` is its time where it has none.

    `scope` gives what the mapping does not name, `tenant` the tenant where there is no scope.
    Any: the values of foreign data, each checked here. Raises InputError.
    """
    given = {ALIASES.get(key, key): value for key, value in row.items()}
    if unknown := sorted(str(key) for key in given if key not in KEYS):
        raise InputError(f"unknown keys {', '.join(unknown)}; known keys: {', '.join(KEYS)}")
    if twice := sorted(key for key, name in ALIASES.items() if key in row and name in row):
        raise InputError(f"{twice[0]} and {ALIASES[twice[0]]} are the same key; give one of them")
    try:
        return Interaction(
            scope=_scope(given, scope, tenant),
            when=parse_time(given["when"]) if given.get("when") not in (None, "") else now,
            query=_text(given.get("query")) or "",
            outcome=_text(given.get("outcome")),
            response=_text(given.get("response")),
            role=given.get("role") or "user",
            item=_text(given.get("item")),
            options=_options(given.get("options")),
            metadata=_metadata(given.get("metadata")),
            id=_text(given.get("id")) or "",
        )
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error
    except OverflowError as error:  # a time whose zone takes it out of the calendar
        raise InputError(f"{given['when']!r} is not a time; {TIME_FORMS}") from error


def chat(
    messages: Iterable[Mapping[str, Any]],
    *,
    scope: Scope,
    now: datetime,
    metadata: Mapping[str, Json] | None = None,
) -> list[Interaction]:
    """Return chat messages as interactions: a user's turn with the assistant's reply to it.

    A reply without a user's turn before it, and a tool's message, stand for themselves under
    their role. System messages are instructions, not memories: they are refused.
    Any: the values of foreign data, each checked here. Raises InputError.
    """
    turns: list[Interaction] = []
    open_turn = False
    for number, message in enumerate(messages, start=1):
        if unknown := sorted(str(key) for key in message if key not in MESSAGE_KEYS):
            raise InputError(
                f"message {number} has unknown keys {', '.join(unknown)}; a message has role and "
                "content, an interaction has the others: give its text as query or response"
            )
        role, text = message.get("role"), message.get("content")
        if not isinstance(text, str) or not text:
            raise InputError(f"message {number} has content {text!r}; it must be non-empty text")
        if role not in ("user", "assistant", "tool"):
            raise InputError(
                f"message {number} has role {role!r}; user, assistant and tool can be remembered"
            )
        if role == "assistant" and open_turn:
            turns[-1] = replace(turns[-1], response=text, id="")
        else:
            turns.append(_turn(role, text, scope, now + len(turns) * TICK, metadata or {}))
        open_turn = role == "user"
    return turns


def parse_time(value: object) -> datetime:
    """Return a time in UTC from ISO 8601 or seconds since 1970.

    A time without a zone is taken as UTC; eight digits are a day, as in 20261123. Raises
    InputError.
    """
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, str):
        if DAY.fullmatch(value):
            return _iso(value)
        try:
            value = float(value)
        except ValueError:
            return _iso(str(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{value!r} is not a time; {TIME_FORMS}")
    if not abs(value) < MAX_EPOCH_SECONDS:
        raise InputError(f"{value!r} is too large for seconds since 1970; {TIME_FORMS}")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{value!r} is before the year 1; {TIME_FORMS}") from error


TIME_FORMS = "write ISO 8601, such as 2026-11-23T18:30:00Z, or seconds since 1970"


def _iso(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a time; {TIME_FORMS}") from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _turn(
    role: Role, text: str, scope: Scope, when: datetime, metadata: Mapping[str, Json]
) -> Interaction:
    if role == "user":
        return Interaction(scope, when, text, metadata=metadata)
    return Interaction(scope, when, "", response=text, role=role, metadata=metadata)


def _scope(given: Mapping[str, Any], scope: Scope | None, tenant: str) -> Scope:
    user = _text(given.get("user")) or (scope.user if scope else None)
    if not user:
        raise InputError("it names no user: give a key 'user', or name the user for all")
    return Scope(
        user,
        scope.tenant if scope else tenant,
        _text(given.get("agent")) or (scope.agent if scope else None),
        _text(given.get("run")) or (scope.run if scope else None),
    )


def _text(value: Any) -> str | None:
    """Return a scalar as text; None and the empty text are None."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InputError(f"{value!r} is not text or a number")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a CSV reader's 4.0 is the rating 4
    return str(value)


def _options(value: Any) -> tuple[str, ...]:
    if value in (None, "", []):
        return ()
    if isinstance(value, str):
        value = value.split("|")
    if not isinstance(value, Sequence):
        raise InputError(f"options are {value!r}; give a list of texts")
    options = tuple(_text(option) or "" for option in value)
    if "" in options or len(set(options)) < len(options):
        raise InputError(f"options are {list(value)!r}; they must differ, and none may be empty")
    return options


def _metadata(value: Any) -> dict[str, Json]:
    if value in (None, ""):
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"metadata is {value!r}; give an object")
    return dict(value)


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            yield number, InputError(f"not JSON: {error.msg} at column {error.colno}")
            continue
        except (ValueError, RecursionError) as error:  # NaN, a huge number, nested too deep
            yield number, InputError(f"not JSON: {error}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, InputError(f"{type(row).__name__} where a JSON object is due")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number in JSON; write null or leave it out")


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = reader.line_num
            rest = f", nothing from here to line {last} is read" if last > first else ""
            yield first, InputError(f"not CSV: {error}{rest}")
            if header is None:
                return
            continue
        if not any(map(str.strip, row)) and len(row) < 2:
            continue  # an empty line
        if header is None:
            header = [name.strip() for name in row]
            if twice := sorted({name for name in header if header.count(name) > 1}):
                yield first, InputError(f"the header names {', '.join(map(repr, twice))} twice")
                return
        elif len(row) != len(header):
            yield first, InputError(f"{len(row)} columns; the header has {len(header)}")
        else:
            try:
                yield first, _csv_record(header, row)
            except InputError as error:
                yield first, error


def _csv_record(header: Sequence[str], row: Sequence[str]) -> Mapping[str, Any]:
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in zip(header, row, strict=True):
        if name == "metadata":
            extra |= _json_object(value)
        elif name == "outcome" and (whole := WHOLE.fullmatch(value)):
            known[name] = whole[1]
        elif name in KEYS or name in ALIASES:
            known[name] = value
        elif value:
            extra[name] = list(value.split("|")) if "|" in value else value
    if extra:
        known["metadata"] = extra
    return known


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"metadata {text[:60]!r} is not JSON: {error}") from error
    return _metadata(value)

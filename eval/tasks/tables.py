"""Files of foreign data, read at the border: what cannot be read is an InputError with its place."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from persona_agent.errors import InputError


def text_of(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not UTF-8 at byte {error.start}"
        raise InputError(f"{path} cannot be read: {why}") from error


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file with a header, each with its line number, from 1.

    Raises InputError for a file that lacks one of `columns`, or a row of another length.
    """
    reader = csv.DictReader(text_of(path).splitlines(keepends=True), strict=True)
    try:
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise InputError(f"{path.name} has no column {', '.join(missing)}")
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"{path.name} line {reader.line_num} has another number of columns"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path.name} line {reader.line_num}: {error}") from error


def json_of(path: Path) -> Any:  # Any: foreign data, taken apart by `field` and `items`
    """Return the value in a JSON file."""
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name} is not JSON: {error}") from error


def field(value: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return `value[key]` if it is of a kind.

    Any: foreign data, checked here. Raises InputError saying where, what is there, what is due.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where} is a {type(value).__name__}; an object is due")
    if key not in value:
        raise InputError(
            f"{where} has no {key!r}; it has {', '.join(map(str, value)) or 'nothing'}"
        )
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        due = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"{key!r} of {where} is a {type(found).__name__}; {due} is due")
    return found


def items(value: Any, where: str) -> list[Any]:
    """Return `value` if it is a list. Any: foreign data, checked here. Raises InputError."""
    if not isinstance(value, list):
        raise InputError(f"{where} is a {type(value).__name__}; a list is due")
    return value

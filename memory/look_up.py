"""Rows of any owners by their keys, many in one statement.

Past SQLAlchemy, which takes longer to run such a statement than the database does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Column, Connection

from persona_agent.memory.prepared import raw_cursor

KEYS = 64  # keys in one of SQLite's statements; a power of two. It takes longer to read long ones


def look_up(
    connection: Connection,
    columns: tuple[Column[Any], ...],
    width: int,
    keys: Sequence[tuple[str, ...]],
) -> Iterator[tuple[Any, ...]]:  # Any: the values of a row, of the types in the schema
    """Give these columns of the rows that have one of `keys`: all of the primary key, this wide.

    Before the columns stands the place of its key.
    """
    with raw_cursor(connection) as cursor:
        if connection.dialect.name == "postgresql":
            parts = [list(part) for part in zip(*keys, strict=True)]
            if parts:
                cursor.execute(_by_arrays(columns, width), parts)
                yield from cursor.fetchall()
            return
        for start in range(0, len(keys), KEYS):
            some = keys[start : start + KEYS]
            size = 1 << (len(some) - 1).bit_length()  # few sizes, so that few statements
            rest = [None] * (size - len(some))
            first = some[0][:-1]
            places = {key[-1]: start + i for i, key in enumerate(some) if key[:-1] == first}
            if len(places) == len(some):
                cursor.execute(_by_last(columns, width, size), [*first, *places, *rest])
                yield from ((places[row[0]], *row[1:]) for row in cursor.fetchall())
            else:
                values = [*chain.from_iterable(some), *rest * width]
                cursor.execute(_by_values(columns, width, size), values)
                yield from ((start + row[0], *row[1:]) for row in cursor.fetchall())


def glance(
    connection: Connection,
    of_owner: tuple[Column[Any], ...],
    of_rows: tuple[Column[Any], ...],
    owner: tuple[str, str],
    ids: Sequence[str],
) -> list[tuple[Any, ...]]:  # Any: the values of a row, of the types in the schema
    """Return an owner's values and, after them, id and values of each of these rows of the owner.

    In one statement, so all of one moment. One row without an id if none of the rows is there;
    nothing if the owner is not there.
    """
    with raw_cursor(connection) as cursor:
        if connection.dialect.name == "postgresql":
            cursor.execute(_glance(of_owner, of_rows, "= ANY(%s)", "%s"), [list(ids), *owner])
        else:
            size = 1 << (len(ids) - 1).bit_length() if ids else 0
            marks = f"IN ({', '.join('?' * size)})"
            rest = [None] * (size - len(ids))
            cursor.execute(_glance(of_owner, of_rows, marks, "?"), [*ids, *rest, *owner])
        return list(cursor.fetchall())


@lru_cache(maxsize=64)
def _glance(
    of_owner: tuple[Column[Any], ...], of_rows: tuple[Column[Any], ...], wanted: str, mark: str
) -> str:
    (owners, tenant, user), (rows, *same, last) = _keys(of_owner, 2), _keys(of_rows, 3)
    return (
        f"SELECT {_named(of_owner)}, {last}, {_named(of_rows)} FROM {owners} LEFT JOIN {rows} "
        f"ON {same[0]} = {tenant} AND {same[1]} = {user} AND {last} {wanted} "
        f"WHERE {tenant} = {mark} AND {user} = {mark}"
    )


def _keys(columns: Sequence[Column[Any]], width: int) -> list[str]:
    """Return the name of a table and of the first columns of its primary key."""
    table = columns[0].table
    return [table.name, *(_named([column]) for column in list(table.c)[:width])]


@lru_cache(maxsize=64)
def _by_last(columns: tuple[Column[Any], ...], width: int, size: int) -> str:
    """Return SQLite's statement that finds rows by `size` keys that differ in their last column.

    Before the columns stands that column. It takes a fifth to a third less than a join (measured).
    """
    *first, last = list(columns[0].table.c)[:width]
    shared = " AND ".join(f"{_named([column])} = ?" for column in first)
    return (
        f"SELECT {_named([last])}, {_named(columns)} FROM {columns[0].table.name} "
        f"WHERE {shared} AND {_named([last])} IN ({', '.join('?' * size)})"
    )


@lru_cache(maxsize=64)
def _by_values(columns: tuple[Column[Any], ...], width: int, size: int) -> str:
    """Return SQLite's statement that finds rows by the first columns of `size` keys.

    A join, since SQLite reads the whole table for "(tenant, user) IN (VALUES ...)"; a key of NULLs
    joins nothing.
    """
    table = columns[0].table.name
    keys = ", ".join(f"k{j}" for j in range(width))
    values = ", ".join(f"({i}, {', '.join('?' * width)})" for i in range(size))
    return (
        f"WITH wanted(place, {keys}) AS (VALUES {values}) SELECT place, {_named(columns)} "
        f"FROM wanted JOIN {table} ON {_same(columns, width)}"
    )


@lru_cache(maxsize=64)
def _by_arrays(columns: tuple[Column[Any], ...], width: int) -> str:
    """Return PostgreSQL's statement that finds rows by keys, given as an array for each column.

    Lateral, with a limit: it would rather read a whole table than look into its index often.
    """
    table = columns[0].table.name
    keys = ", ".join(f"k{j}" for j in range(width))
    arrays = ", ".join(["%s::text[]"] * width)
    found = f"SELECT {_named(columns)} FROM {table} WHERE {_same(columns, width)} LIMIT 1"
    return (
        f"SELECT number - 1, found.* FROM unnest({arrays}) WITH ORDINALITY "
        f"AS wanted({keys}, number), LATERAL ({found}) AS found"
    )


def _named(columns: Sequence[Column[Any]]) -> str:
    return ", ".join(f'{column.table.name}."{column.name}"' for column in columns)


def _same(columns: Sequence[Column[Any]], width: int) -> str:
    """Return the condition that the first columns of a row are the key k0, k1, ..."""
    first = list(columns[0].table.c)[:width]
    return " AND ".join(f"{_named([column])} = k{j}" for j, column in enumerate(first))

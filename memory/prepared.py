"""Statements that run often, compiled once and given to the driver directly.

SQLAlchemy takes longer to run such a statement than SQLite does; here it only writes the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import Insert

DIALECTS = {"sqlite": sqlite.dialect, "postgresql": postgresql.psycopg.dialect}


class Prepared:
    """A statement for one dialect; the driver takes and gives the values as they are.

    An INSERT is of whole rows, a SELECT takes the parameters that are bound in it.
    """

    def __init__(self, statement: Insert | Select[Any], dialect: str) -> None:
        columns = None
        if isinstance(statement, Insert):
            columns = [column.name for column in statement.table.columns]
        compiled: Any = statement.compile(  # Any: of SQLAlchemy's own, not typed
            dialect=DIALECTS[dialect](), column_keys=columns
        )
        self._text = str(compiled)
        self._order: list[str] | None = compiled.positiontup  # None if parameters have names

    def run(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run the statement once for each row, in the connection's transaction."""
        with raw_cursor(connection) as cursor:
            if len(rows) == 1:
                cursor.execute(self._text, self._values(rows[0]))
            else:
                cursor.executemany(self._text, list(map(self._values, rows)))

    def rows(self, connection: Connection, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run the statement for these values and return all rows; Any: as in the schema."""
        with raw_cursor(connection) as cursor:
            cursor.execute(self._text, self._values(values))
            return list(cursor.fetchall())

    def returned(
        self, connection: Connection, row: Mapping[str, object]
    ) -> Any:  # Any: as in the schema
        """Run the statement for one row and return the first value that it returns."""
        return self.rows(connection, row)[0][0]

    def _values(self, row: Mapping[str, object]) -> Any:  # Any: a sequence or a mapping
        return row if self._order is None else [row[name] for name in self._order]


@contextmanager
def raw_cursor(connection: Connection) -> Iterator[DBAPICursor]:
    """Give the driver's own cursor; what it raises is raised as SQLAlchemy would raise it."""
    cursor = connection.connection.cursor()
    try:
        yield cursor
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(None, None, error) from error
    finally:
        cursor.close()

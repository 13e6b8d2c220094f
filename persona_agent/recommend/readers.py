"""Interactions, items and graphs from DataFrames and files: columns in, our types out.

RecBole's atomic files are text with tabs, whose header names each column and its type, such as
`user_id:token`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from persona_agent.errors import InputError
from persona_agent.recommend.data import Duplicates, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdArray, IdMap
from persona_agent.recommend.item_table import ItemTable

if TYPE_CHECKING:
    import pandas as pd

ATOMIC = {"user": "user_id", "item": "item_id", "value": "rating", "time": "timestamp"}


def from_frame(
    frame: pd.DataFrame,
    *,
    user: str = "user",
    item: str = "item",
    value: str | None = None,
    time: str | None = None,
    duplicates: Duplicates = "last",
) -> Interactions:
    """Return interactions from the named columns; without `value` every row counts 1.

    Ids may be text or whole numbers, which become text. Times may be numbers (seconds since
    1970) or datetimes. `duplicates` is as in `Interactions.of`.
    Raises InputError for missing or doubled columns, missing ids, ids that are fractions, and NaN.
    """
    _need(frame, [name for name in (user, item, value, time) if name is not None])
    return Interactions.of(
        _ids(frame[user], user),
        _ids(frame[item], item),
        None if value is None else _numbers(frame[value], value),
        None if time is None else _seconds(frame[time], time),
        duplicates=duplicates,
    )


def read_csv(
    path: str | Path, *, separator: str = ",", duplicates: Duplicates = "last", **columns: str
) -> Interactions:
    """Return interactions from text with a header; `columns` are as in `from_frame`."""
    return from_frame(_text(Path(path), separator), duplicates=duplicates, **columns)


def read_parquet(
    path: str | Path, *, duplicates: Duplicates = "last", **columns: str
) -> Interactions:
    """Return interactions from a Parquet file; `columns` are as in `from_frame`."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error
    return from_frame(frame, duplicates=duplicates, **columns)


def read_atomic(path: str | Path, *, duplicates: Duplicates = "last") -> Interactions:
    """Return interactions from RecBole's `.inter`; rating and timestamp may be absent."""
    frame = atomic_frame(path)
    names = {ours: theirs for ours, theirs in ATOMIC.items() if theirs in frame.columns}
    return from_frame(
        frame,
        user=ATOMIC["user"],
        item=ATOMIC["item"],
        value=names.get("value"),
        time=names.get("time"),
        duplicates=duplicates,
    )


def read_atomic_items(
    path: str | Path, *, title: str = "title", genres: str = "genres", year: str = "year"
) -> ItemTable:
    """Return titles, genres (words separated by spaces) and years from RecBole's `.item`."""
    frame = atomic_frame(path)
    _need(frame, ["item_id", title, genres, year])
    return item_table(
        _ids(frame["item_id"], "item_id"),
        frame[title].tolist(),
        [tuple(one.split()) for one in frame[genres]],
        frame[year].tolist(),
    )


def read_atomic_users(path: str | Path) -> dict[str, dict[str, str]]:
    """Return what RecBole's `.user` says of each user, by id and column."""
    frame = atomic_frame(path)
    _need(frame, ["user_id"])
    ids = _ids(frame.pop("user_id"), "user_id")
    return dict(zip(ids.tolist(), frame.to_dict("records"), strict=True))


def read_atomic_graph(triples: str | Path, links: str | Path) -> Graph:
    """Return the graph of RecBole's `.kg` and `.link`."""
    facts, linked = atomic_frame(triples), atomic_frame(links)
    _need(facts, ["head_id", "relation_id", "tail_id"])
    _need(linked, ["item_id", "entity_id"])
    columns = [_ids(facts[name], name) for name in ("head_id", "relation_id", "tail_id")]
    return Graph.of(
        zip(*columns, strict=True),
        unique_links(_ids(linked["item_id"], "item_id"), _ids(linked["entity_id"], "entity_id")),
    )


def read_triples(path: str | Path, links: Mapping[str, str], *, separator: str = "\t") -> Graph:
    """Return the graph of a text file without header: head, relation, tail."""
    frame = _text(Path(path), separator, names=["head", "relation", "tail"])
    columns = [_ids(frame[name], name) for name in frame.columns]
    return Graph.of(zip(*columns, strict=True), links)


def read_links(path: str | Path, *, separator: str = "\t") -> dict[str, str]:
    """Return item -> entity from a text file without header."""
    frame = _text(Path(path), separator, names=["item", "entity"])
    return unique_links(_ids(frame["item"], "item"), _ids(frame["entity"], "entity"))


def read_columns(
    path: str | Path, names: Sequence[str], *, separator: str = ","
) -> tuple[list[str], ...]:
    """Return the named columns of text with a header, as text."""
    frame = _text(Path(path), separator)
    _need(frame, list(names))
    return tuple(frame[name].tolist() for name in names)


def read_items(path: str | Path, *, separator: str = ",") -> ItemTable:
    """Return the item table of text with a header: columns item, title, and genres and year if any.

    Genres are separated by `|`. Raises InputError for a missing column or an item that repeats.
    """
    frame = _text(Path(path), separator)
    _need(frame, ["item", "title"])
    empty = [""] * len(frame)
    genres, years = (
        frame[name].tolist() if name in frame.columns else empty for name in ("genres", "year")
    )
    return item_table(
        _ids(frame["item"], "item"),
        frame["title"].tolist(),
        [tuple(part for part in row.split("|") if part) for row in genres],
        years,
    )


def unique_links(items: IdArray, entities: IdArray) -> dict[str, str]:
    """Return item -> entity; raises InputError for an item of two entities."""
    links: dict[str, str] = {}
    for item, entity in zip(items, entities, strict=True):
        if links.setdefault(item, entity) != entity:
            raise InputError(f"item {item!r} is linked to {links[item]!r} and to {entity!r}")
    return links


def atomic_frame(path: str | Path) -> pd.DataFrame:
    """Return one of RecBole's atomic files as text columns, named without their types."""
    frame = _text(Path(path), "\t")
    frame.columns = [str(name).split(":")[0] for name in frame.columns]
    return frame


def item_table(
    ids: IdArray, titles: list[str], genres: list[tuple[str, ...]], years: list[str]
) -> ItemTable:
    """Return a table in the natural order of its ids; a year that is no number is unknown."""
    known = IdMap(ids, "item")
    if len(known) != len(ids):
        raise InputError(f"the item table has {len(ids)} rows for {len(known)} items; one an item")
    order = np.argsort(known.positions(ids)).tolist()
    return ItemTable(
        known,
        tuple(titles[row] for row in order),
        tuple(genres[row] for row in order),
        tuple(int(years[row]) if years[row].isdecimal() else 0 for row in order),
    )


def _text(path: Path, separator: str, names: list[str] | None = None) -> pd.DataFrame:
    """Return a file as columns of text. Quotes are text where tabs separate."""
    import csv

    import pandas as pd

    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    try:
        rows = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            quoting=quoting,
            index_col=False,
            encoding="utf-8",
            engine="c",
        )
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path} cannot be read: {error}") from error
    header = rows.iloc[0].tolist() if names is None else names
    if len(header) != rows.shape[1]:
        raise InputError(f"{path.name} has {rows.shape[1]} columns; {len(header)} are due: {names}")
    rows.columns = header
    return rows.iloc[1:].reset_index(drop=True) if names is None else rows


def _need(frame: pd.DataFrame, names: list[str]) -> None:
    columns = frame.columns.tolist()
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(f"there is no column {missing}; there are {columns}")
    doubled = sorted({name for name in names if columns.count(name) > 1 or names.count(name) > 1})
    if doubled:
        raise InputError(f"columns {doubled} come more than once; each is due once")


def _ids(column: pd.Series[Any], name: str) -> IdArray:  # Any: of whatever the user has
    """Return ids as text; whole numbers become text, all else that is not text is refused."""
    import pandas as pd

    missing = column.isna() | (column == "")
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise InputError(f"column {name!r} has no id in row {row}; drop such rows first")
    if pd.api.types.is_integer_dtype(column.dtype):
        return np.array(column.astype(str).tolist(), object)
    wrong = [one for one in column if not isinstance(one, (str, int, np.integer))]
    if wrong or pd.api.types.is_bool_dtype(column.dtype):
        raise InputError(
            f"column {name!r} holds {wrong[0] if wrong else column.iloc[0]!r}; "
            "ids are text or whole numbers"
        )
    return np.array([str(one) for one in column], object)


def _numbers(column: pd.Series[Any], name: str) -> Any:  # Any: an array of numbers
    import pandas as pd

    try:
        found = pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {name!r} must hold numbers: {error}") from error
    if np.isnan(found).any():
        row = int(np.flatnonzero(np.isnan(found))[0])
        raise InputError(f"column {name!r} holds NaN in row {row}; drop or fill such rows first")
    return found


def _seconds(column: pd.Series[Any], name: str) -> Any:  # Any: an array of numbers
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _numbers(column, name)
    if column.isna().any():
        raise InputError(f"column {name!r} has no time in some rows; drop or fill them first")
    start = pd.Timestamp(0, tz=column.dt.tz)
    return ((column - start) // pd.Timedelta(seconds=1)).to_numpy(np.int64)

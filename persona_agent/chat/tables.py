"""Anybody's table as a domain: a CSV file with a row an item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persona_agent.chat.domain import Domain
from persona_agent.errors import InputError
from persona_agent.recommend.dialogue.table import from_frame
from persona_agent.recommend.port import Recommender

if TYPE_CHECKING:
    import pandas as pd

ITEM = ("item", "id")
NAME = ("name", "title")
YEAR = "year"
DECADE = "decade"
MOST_DISTINCT = 20  # a column with more values, mostly different, describes and does not group


def from_csv(
    path: str | Path,
    *,
    item: str | None = None,
    name: str | None = None,
    kinds: Sequence[str] | None = None,
    noun: str | None = None,
    separator: str = "|",
    model: Recommender | None = None,
) -> Domain:
    """Return the domain of a CSV file with a header: a row an item, a column a kind of attribute.

    `item` is the column of ids, by default "item" or "id", else the names; `name` that of names,
    by default "name" or "title", else the first column. `kinds` are the columns that are asked
    about, by default all others but those in which most values are different, such as prices and
    addresses; a column "year" becomes decades. A cell holds several values split by `separator`.
    `noun` is what an item is called, by default the file's name without a plural s.

    Raises InputError for a file that cannot be read as such.
    """
    source = Path(path)
    frame = _frame(source)
    columns = frame.columns.tolist()
    name = name or next((one for one in NAME if one in columns), columns[0])
    item = item or next((one for one in ITEM if one in columns), name)
    years: dict[str, int] = {}
    if YEAR in columns and kinds is None:
        years = {
            one: int(year)
            for one, year in zip(frame[item], frame[YEAR], strict=True)
            if year.isdigit()
        }
        frame[DECADE] = [f"{int(one) // 10 * 10}s" if one.isdigit() else "" for one in frame[YEAR]]
        frame = frame.drop(columns=[YEAR])
    if kinds is None:
        rest = [one for one in frame.columns if one not in (item, name)]
        kinds = [one for one in rest if _groups(frame[one], separator)]
    if not kinds:
        raise InputError(
            f"{source} has no column to ask about beside {item!r} and {name!r}; name some as kinds"
        )
    table = from_frame(frame, item=item, name=name, kinds=kinds, separator=separator)
    plural = source.stem.replace("_", " ")
    return Domain.of(
        source.stem,
        table,
        noun=noun or plural.removesuffix("s"),
        plural=plural if noun is None else None,
        model=model,
        years=years,
        asks={DECADE: "decade"},
    )


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if not len(frame):
        raise InputError(f"{path} has no rows; a row an item is due")
    return frame


def _groups(column: pd.Series[str], separator: str) -> bool:
    """Return whether the values of a column are shared by items."""
    cells = [one.strip() for cell in column for one in cell.split(separator) if one.strip()]
    distinct = len(set(cells))
    return bool(cells) and (distinct <= MOST_DISTINCT or distinct <= len(cells) / 2)

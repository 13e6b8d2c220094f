"""Which items have which attributes: what a dialogue asks about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from persona_agent.errors import InputError
from persona_agent.recommend.data import Csr, binary
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.recommend.item_table import ItemTable

if TYPE_CHECKING:
    import pandas as pd

KIND = "attribute"  # of attributes that nobody gave a kind


@dataclass(frozen=True, slots=True, eq=False)
class AttributeTable:
    """Items and attributes by position, with names, and who has what both ways.

    `has` (items, attributes), `had_by` (attributes, items) and `kinds_of` (attributes, kinds) are
    CSR of 1. A kind is what an enumerated question is about, such as a genre; an attribute has one
    or more. Build it with `of`, `attributes_of`, `from_frame` or `read_csv`.
    """

    items: IdMap
    attributes: IdMap
    kinds: IdMap
    item_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    has: Csr
    had_by: Csr
    kinds_of: Csr

    @classmethod
    def of(
        cls,
        pairs: Iterable[tuple[str, str]],
        *,
        kinds: Mapping[str, Sequence[str]] | None = None,
        item_names: Mapping[str, str] | None = None,
        attribute_names: Mapping[str, str] | None = None,
        items: Iterable[str] = (),
    ) -> AttributeTable:
        """Return the table of pairs of item and attribute; a pair that comes twice counts once.

        `kinds` are each attribute's, "attribute" for those it does not name. Names default to ids.
        `items` are known besides, also without attributes.

        >>> table = AttributeTable.of([("tea", "hot"), ("tea", "sweet"), ("ice", "sweet")])
        >>> list(table.items), list(table.attributes), table.has.toarray().astype(int).tolist()
        (['ice', 'tea'], ['hot', 'sweet'], [[0, 1], [1, 1]])
        """
        rows = list(pairs)
        item_map = IdMap([*(one for one, _ in rows), *items], "item")
        attribute_map = IdMap((one for _, one in rows), "attribute")
        named_kinds = {one: tuple((kinds or {}).get(one, (KIND,))) for one in attribute_map}
        bare = [one for one, found in named_kinds.items() if not found]
        if bare:
            raise InputError(
                f"attribute {bare[0]!r} has no kind; leave it out of kinds, or name one"
            )
        kind_map = IdMap((kind for found in named_kinds.values() for kind in found), "kind")
        owner = np.repeat(
            np.arange(len(attribute_map)), [len(found) for found in named_kinds.values()]
        )
        kind = kind_map.positions(kind for found in named_kinds.values() for kind in found)
        has = binary(
            item_map.positions(one for one, _ in rows),
            attribute_map.positions(one for _, one in rows),
            (len(item_map), len(attribute_map)),
        )
        return cls(
            item_map,
            attribute_map,
            kind_map,
            tuple((item_names or {}).get(one) or one for one in item_map),
            tuple((attribute_names or {}).get(one) or one for one in attribute_map),
            has,
            has.T.tocsr(),
            binary(owner, kind, (len(attribute_map), len(kind_map))),
        )

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return (
            f"AttributeTable({len(self.items)} items, {len(self.attributes)} attributes of "
            f"{len(self.kinds)} kinds, {self.has.nnz} pairs)"
        )

    def attributes_of(self, item: int) -> IntArray:
        """Return the positions of an item's attributes, ascending."""
        return _row(self.has, item)

    def items_with(self, attribute: int) -> IntArray:
        """Return the positions of the items that have an attribute, ascending."""
        return _row(self.had_by, attribute)

    def of_kind(self, kind: str) -> IntArray:
        """Return the positions of the attributes of a kind, ascending."""
        (column,) = self.kinds.positions([kind])
        return np.flatnonzero(self.kinds_of[:, [column]].toarray()[:, 0]).astype(np.int64)

    def on(self, items: IdMap) -> AttributeTable:
        """Return the table of these items in their order, such as a recommender's.

        An item that was unknown has no attributes and its id for a name; attributes that no item
        is left with are dropped.
        """
        found = self.items.find(items)
        known = np.flatnonzero(found >= 0)
        chosen = self.has[found[known]].tocoo()
        kept, column = np.unique(chosen.col, return_inverse=True)
        has = binary(known[chosen.row], column, (len(items), len(kept)))
        names = (self.item_names[at] if at >= 0 else "" for at in found.tolist())
        return AttributeTable(
            items,
            self.attributes.take(kept),
            self.kinds,
            tuple(name or one for name, one in zip(names, items, strict=True)),
            tuple(self.attribute_names[at] for at in kept.tolist()),
            has,
            has.T.tocsr(),
            self.kinds_of[kept],
        )

    def common(self, least: int) -> AttributeTable:
        """Return the table of the attributes that at least so many items have."""
        kept = np.flatnonzero(np.diff(self.had_by.indptr) >= least)
        has = self.has[:, kept].tocsr()
        return AttributeTable(
            self.items,
            self.attributes.take(kept),
            self.kinds,
            self.item_names,
            tuple(self.attribute_names[at] for at in kept.tolist()),
            has,
            has.T.tocsr(),
            self.kinds_of[kept],
        )


def attributes_of(table: ItemTable, *, decades: bool = True) -> AttributeTable:
    """Return genres, and decades of the years that are known, as attributes of two kinds.

    Ids are such as "genre:Drama" and "decade:1990", names "Drama" and "1990s".
    """
    pairs = [
        (item, f"genre:{genre}")
        for item, genres in zip(table.ids, table.genres, strict=True)
        for genre in genres
    ]
    if decades:
        years = zip(table.ids, table.years, strict=True)
        pairs += [(item, f"decade:{year // 10 * 10}") for item, year in years if year]
    names = {one: _named(one) for _, one in pairs}
    return AttributeTable.of(
        pairs,
        kinds={one: (one.partition(":")[0],) for one in names},
        item_names=dict(zip(table.ids, table.titles, strict=True)),
        attribute_names=names,
        items=table.ids,
    )


def from_frame(
    frame: pd.DataFrame,
    *,
    item: str = "item",
    name: str | None = None,
    kinds: Sequence[str],
    separator: str = "|",
) -> AttributeTable:
    """Return the table of a DataFrame: each column of `kinds` holds the attributes of that kind.

    A cell may hold several, split by `separator`, or none; rows of the same item are joined, so
    that a row may be an item or a pair. Ids are such as "genre:Drama". Raises InputError for
    columns that are missing, and for an item without id.
    """
    import pandas as pd

    columns = frame.columns.tolist()
    missing = [one for one in (item, name, *kinds) if one is not None and one not in columns]
    if missing:
        raise InputError(f"there is no column {missing}; there are {columns}")
    if frame[item].isna().any() or (frame[item] == "").any():
        row = int(np.flatnonzero(frame[item].isna() | (frame[item] == ""))[0])
        raise InputError(f"column {item!r} has no id in row {row}; drop such rows first")
    ids = [str(one) for one in frame[item]]
    pairs, names = [], {}
    for kind in kinds:
        for one, cell in zip(ids, frame[kind], strict=True):
            parts = [] if pd.isna(cell) else str(cell).split(separator)
            for part in parts:
                if part.strip():
                    names[f"{kind}:{part.strip()}"] = part.strip()
                    pairs.append((one, f"{kind}:{part.strip()}"))
    titles = {} if name is None else dict(zip(ids, frame[name].astype(str), strict=True))
    return AttributeTable.of(
        pairs,
        kinds={one: (one.partition(":")[0],) for one in names},
        item_names=titles,
        attribute_names=names,
        items=ids,
    )


def read_csv(
    path: str | Path,
    *,
    item: str = "item",
    name: str | None = None,
    kinds: Sequence[str],
    separator: str = "|",
) -> AttributeTable:
    """Return the table of a CSV file with a header; the rest is as in `from_frame`."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    return from_frame(frame, item=item, name=name, kinds=kinds, separator=separator)


def _row(matrix: Csr, row: int) -> IntArray:
    found: IntArray = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].astype(np.int64)
    return found


def _named(attribute: str) -> str:
    kind, _, value = attribute.partition(":")
    return f"{value}s" if kind == "decade" else value

"""What items are called and what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from persona_agent.recommend.data import Csr
from persona_agent.recommend.ids import IdMap


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """What items are called and what they are: one title, tuple of genres and year an item.

    A title may be empty, genres may be none, and year 0 means unknown.
    """

    ids: IdMap
    titles: tuple[str, ...]
    genres: tuple[tuple[str, ...], ...]
    years: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, column in (("titles", self.titles), ("genres", self.genres)):
            if len(column) != len(self.ids):
                raise ValueError(f"there are {len(column)} {name} for {len(self.ids)} items")
        if len(self.years) != len(self.ids):
            raise ValueError(f"there are {len(self.years)} years for {len(self.ids)} items")

    def title(self, item: str) -> str:
        """Return the title of an item, or its id where there is none."""
        position = int(self.ids.find([item])[0])
        return self.titles[position] or item if position >= 0 else item

    def genre_shares(self, items: IdMap) -> tuple[list[str], Csr]:
        """Return the genres, and CSR of shape (items, genres): equal shares that sum to 1.

        An item without genres, or that this table does not know, has an empty row.
        """
        names = sorted({genre for row in self.genres for genre in row})
        column = {name: number for number, name in enumerate(names)}
        rows = [self.genres[at] if at >= 0 else () for at in self.ids.find(items)]
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        shares = np.array([1 / len(row) for row in rows for _ in row], np.float32)
        columns = np.array([column[genre] for row in rows for genre in row], np.int64)
        return names, sparse.csr_array(
            (shares, (owner, columns)), shape=(len(rows), len(names)), dtype=np.float32
        )

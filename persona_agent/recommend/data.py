"""What recommenders learn from and recommend to: interactions and histories.

Frozen classes over arrays. Ids are text outside and positions inside. Sparse matrices are
scipy's CSR.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from persona_agent.errors import InputError
from persona_agent.recommend.ids import IdArray, IdMap, IntArray
from persona_agent.types import FloatArray

Csr: TypeAlias = Any  # scipy publishes no types: a scipy.sparse.csr_array of float32
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Duplicates: TypeAlias = Literal["last", "first", "max", "sum", "error"]


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """A batch of people, each the set of items that he or she has chosen.

    `matrix` is CSR of shape (people, items): 1 where the item is in the history, no other values.
    `users` names the rows where the model may know them: a model with a row per user may use what
    it learned about them, all others fold in the items. An empty history is allowed.
    """

    items: IdMap
    matrix: Csr
    users: IdArray | None = None

    def __post_init__(self) -> None:
        if self.matrix.shape[1] != len(self.items):
            raise ValueError(
                f"the matrix has {self.matrix.shape[1]} columns and there are {len(self.items)} "
                "items; they must agree"
            )
        if self.users is not None and len(self.users) != self.matrix.shape[0]:
            raise ValueError(
                f"there are {len(self.users)} users for {self.matrix.shape[0]} rows; one a row"
            )

    @classmethod
    def of(
        cls,
        lists: Iterable[Iterable[str]],
        items: IdMap,
        *,
        unknown: Literal["error", "drop"] = "error",
    ) -> Histories:
        """Return histories from lists of item ids; repeated ids count once.

        Ids that `items` does not know raise InputError, or are dropped if `unknown` is "drop".
        """
        rows = [list(one) for one in lists]
        flat = [item for row in rows for item in row]
        found = items.find(flat) if unknown == "drop" else items.positions(flat)
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return cls(items, binary(owner[found >= 0], found[found >= 0], (len(rows), len(items))))

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def take(self, rows: IntArray | slice) -> Histories:
        """Return these rows, in their order."""
        users = None if self.users is None else self.users[rows]
        return Histories(self.items, self.matrix[rows], users)

    def lists(self) -> list[list[str]]:
        """Return the item ids of each row."""
        ids = self.items.ids[self.matrix.indices].tolist()
        bounds = self.matrix.indptr.tolist()
        return [ids[begin:end] for begin, end in itertools.pairwise(bounds)]

    def on(self, items: IdMap) -> Histories:
        """Return the same histories over another map of items; raises InputError if one lacks."""
        if items is self.items:
            return self
        used = np.unique(self.matrix.indices)
        column = np.full(len(self.items), -1, np.int64)
        column[used] = items.positions(self.items.ids[used])
        owner = np.repeat(np.arange(len(self)), np.diff(self.matrix.indptr))
        shape = (len(self), len(items))
        return Histories(items, binary(owner, column[self.matrix.indices], shape), self.users)


HistoryLike: TypeAlias = Histories | Sequence[Sequence[str]]


def as_histories(given: HistoryLike, items: IdMap) -> Histories:
    """Return `given` over `items`; raises InputError for unknown items, TypeError for a str."""
    if isinstance(given, Histories):
        return given.on(items)
    if isinstance(given, str) or any(isinstance(one, str) for one in given):
        raise TypeError('histories are a list of lists of item ids, such as [["1", "2"], ["7"]]')
    return Histories.of(given, items)


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Who interacted with what: arrays of equal length, sorted by user and item, pairs unique.

    `user` and `item` are positions in `users` and `items`; `values` are ratings, counts or 1;
    `times` are seconds since 1970, or None if nobody noted them. Build it with `of` or a reader.
    """

    users: IdMap
    items: IdMap
    user: IntArray
    item: IntArray
    values: FloatArray
    times: IntArray | None = None

    def __post_init__(self) -> None:
        columns = (self.user, self.item, self.values, self.times)
        for column in columns:
            if column is not None:
                if len(column) != len(self.user):
                    raise ValueError(f"columns have lengths {len(self.user)} and {len(column)}")
                column.flags.writeable = False

    @classmethod
    def of(
        cls,
        users: Sequence[str] | IdArray,
        items: Sequence[str] | IdArray,
        values: Sequence[float] | npt.NDArray[Any] | None = None,  # Any: numbers of any kind
        times: Sequence[float] | npt.NDArray[Any] | None = None,  # Any: numbers of any kind
        *,
        duplicates: Duplicates = "last",
    ) -> Interactions:
        """Return interactions from columns of equal length; ids are text, values default to 1.

        A pair of user and item that comes more than once is kept once. `duplicates` says with
        which value: of the "last" by time (without times: the last given; ties likewise), the
        "first", the "max", or the "sum" (with the last time); "error" refuses.
        Raises InputError for empty or missing ids, for NaN, and for columns of unequal length.
        """
        user_map, user = _encode(users, "user")
        item_map, item = _encode(items, "item")
        count = len(user)
        value = _numbers(values, count, "values", np.float32)
        time = None if times is None else _numbers(times, count, "times", np.int64)
        if len(item) != count:
            raise InputError(f"there are {count} users and {len(item)} items; one a row is due")
        order = np.lexsort((np.arange(count), item, user) if time is None else (time, item, user))
        made = cls(
            user_map,
            item_map,
            user[order],
            item[order],
            value[order] if value is not None else np.ones(count, np.float32),
            None if time is None else time[order],
        )
        return _unique(made, duplicates)

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return f"Interactions({len(self)} of {len(self.users)} users, {len(self.items)} items)"

    @property
    def matrix(self) -> Csr:
        """CSR of shape (users, items) with 1 for each interaction; the values are not in it."""
        return binary(self.user, self.item, (len(self.users), len(self.items)))

    def histories(self) -> Histories:
        """Return every user's items, in the order of `users`, with their names."""
        return Histories(self.items, self.matrix, self.users.ids)

    def take(self, rows: BoolArray | IntArray) -> Interactions:
        """Return these rows over the same id maps; `rows` is a mask or ascending positions."""
        times = None if self.times is None else self.times[rows]
        return Interactions(
            self.users, self.items, self.user[rows], self.item[rows], self.values[rows], times
        )

    def compact(self) -> Interactions:
        """Return the same rows over the users and items that occur in them."""
        users, user = np.unique(self.user, return_inverse=True)
        items, item = np.unique(self.item, return_inverse=True)
        return Interactions(
            self.users.take(users), self.items.take(items), user, item, self.values, self.times
        )

    def at_least(self, value: float) -> Interactions:
        """Return the interactions of at least this value, and only their users and items."""
        return self.take(self.values >= value).compact()

    def core(self, users: int = 1, items: int = 1) -> Interactions:
        """Return the largest part in which every user and item has so many interactions.

        Drops users below `users` and items below `items` in turn until none is left to drop.
        """
        kept = np.ones(len(self), bool)
        while True:
            by_user = np.bincount(self.user[kept], minlength=len(self.users))
            by_item = np.bincount(self.item[kept], minlength=len(self.items))
            wanted = kept & (by_user[self.user] >= users) & (by_item[self.item] >= items)
            if np.array_equal(wanted, kept):
                return self.take(kept).compact()
            kept = wanted

    def fingerprint(self) -> str:
        """Return a hash of all that is in here: equal data, equal hash, on every machine."""
        digest = hashlib.sha256()
        digest.update(self.users.fingerprint().encode())
        digest.update(self.items.fingerprint().encode())
        for column, kind in ((self.user, "<i8"), (self.item, "<i8"), (self.values, "<f4")):
            digest.update(column.astype(kind).tobytes())
        digest.update(b"" if self.times is None else self.times.astype("<i8").tobytes())
        return digest.hexdigest()


def binary(rows: IntArray, columns: IntArray, shape: tuple[int, int]) -> Csr:
    """Return CSR with 1 at these places, however often one is named; columns ascend in a row."""
    matrix = sparse.csr_array(
        (np.ones(len(rows), np.float32), (rows, columns)), shape=shape, dtype=np.float32
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _encode(ids: Sequence[str] | IdArray, what: str) -> tuple[IdMap, IntArray]:
    names = list(ids)
    for row, one in enumerate(names):
        if not isinstance(one, str) or not one:
            raise InputError(f"the {what} id of row {row} is {one!r}; it must be non-empty text")
    found = IdMap(names, what)
    return found, found.positions(names)


def _numbers(
    given: Sequence[float] | npt.NDArray[Any] | None,  # Any: numbers of any kind
    count: int,
    what: str,
    kind: type[np.float32 | np.int64],
) -> Any:  # Any: an array of the kind asked for
    if given is None:
        return None
    try:
        column = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be numbers: {error}") from error
    if column.shape != (count,):
        raise InputError(f"there are {count} rows and {column.size} {what}; one a row is due")
    if not np.isfinite(column).all():
        row = int(np.flatnonzero(~np.isfinite(column))[0])
        raise InputError(f"{what} hold {column[row]} in row {row}; drop or fill such rows first")
    return column.astype(kind)


def _unique(sorted_rows: Interactions, duplicates: Duplicates) -> Interactions:
    """Return one row a pair; the rows come sorted by user, item and time."""
    user, item, values = sorted_rows.user, sorted_rows.item, sorted_rows.values
    new = np.ones(len(user), bool)
    new[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    if new.all():
        return sorted_rows
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(user)) - 1
    if duplicates == "error":
        row = int(np.flatnonzero(~new)[0])
        raise InputError(
            f"user {sorted_rows.users.ids[user[row]]!r} and item "
            f"{sorted_rows.items.ids[item[row]]!r} come more than once; say which to keep"
        )
    kept = sorted_rows.take(starts if duplicates == "first" else ends)
    if duplicates in ("first", "last"):
        return kept
    if duplicates not in ("max", "sum"):
        raise ValueError(f"duplicates is {duplicates!r}; use last, first, max, sum or error")
    join = np.maximum if duplicates == "max" else np.add
    joined = join.reduceat(values, starts).astype(np.float32)
    return Interactions(kept.users, kept.items, kept.user, kept.item, joined, kept.times)

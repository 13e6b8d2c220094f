"""External ids outside, dense ids inside."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.errors import InputError

IntArray: TypeAlias = npt.NDArray[np.int64]
IdArray: TypeAlias = npt.NDArray[np.object_]  # of str: fixed-width text would pad every id

SHOWN = 5
SEPARATOR = "\x00"


class IdMap:
    """Ids as text, each with its position: 0, 1, 2, ... Immutable.

    >>> films = IdMap(["10", "2", "10"], what="item")
    >>> list(films), len(films), films.positions(["10"])
    (['2', '10'], 2, array([1]))
    """

    __slots__ = ("_index", "ids", "what")

    ids: IdArray
    what: str

    def __init__(self, ids: Iterable[str], what: str = "id") -> None:
        """Keep each id once, in natural order: whole numbers by value, other text by code point.

        The order depends on nothing but the set of ids, so that the order of a file cannot change
        a model. `what` is the noun of error messages.
        """
        self._set(natural_order(set(ids)), what)

    @classmethod
    def ordered(cls, ids: Sequence[str], what: str = "id") -> IdMap:
        """Return a map that keeps the order given; raises InputError if an id comes twice."""
        found = cls.__new__(cls)
        found._set(list(ids), what)
        if len(found._index) != len(found):
            twice = sorted(one for one, count in Counter(ids).items() if count > 1)
            raise InputError(f"{what} ids must be unique; these come twice: {twice[:SHOWN]}")
        return found

    def _set(self, ids: list[str], what: str) -> None:
        self.ids = np.empty(len(ids), object)
        self.ids[:] = ids
        self.ids.flags.writeable = False
        self.what = what
        self._index = {one: position for position, one in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids.tolist())

    def __contains__(self, one: object) -> bool:
        return one in self._index

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdMap):
            return NotImplemented
        return self is other or np.array_equal(self.ids, other.ids)

    __hash__ = None  # type: ignore[assignment]  # compared by value, never a key

    def __repr__(self) -> str:
        return f"IdMap({len(self)} {self.what} ids)"

    def find(self, ids: Iterable[str]) -> IntArray:
        """Return the position of each id, -1 where it is unknown."""
        return np.fromiter((self._index.get(one, -1) for one in ids), np.int64)

    def positions(self, ids: Iterable[str]) -> IntArray:
        """Return the position of each id; raises InputError naming ids that are unknown."""
        asked = list(ids)
        found = self.find(asked)
        if len(found) and found.min() < 0:
            unknown = [asked[row] for row in np.flatnonzero(found < 0)[:SHOWN]]
            raise InputError(
                f"unknown {self.what} ids: {unknown}"
                f"{' and others' if int((found < 0).sum()) > SHOWN else ''};"
                f" {len(self)} are known, such as {self.ids[:3].tolist()} (ids are text)"
            )
        return found

    def take(self, positions: IntArray) -> IdMap:
        """Return the map of these positions, in their order."""
        return IdMap.ordered(self.ids[positions].tolist(), self.what)

    def fingerprint(self) -> str:
        """Return a hash of the ids and their order."""
        return hashlib.sha256("\x00".join(self).encode("utf-8", "surrogatepass")).hexdigest()


def natural_order(ids: Iterable[str]) -> list[str]:
    """Return ids sorted by value if all are whole numbers, else by code point.

    >>> natural_order(["10", "9"]), natural_order(["10", "9", "x"])
    (['9', '10'], ['10', '9', 'x'])
    """
    found = list(ids)
    if all(one.isascii() and one.isdigit() for one in found):
        return sorted(found, key=lambda one: (int(one), one))
    return sorted(found)


def packed(ids: Iterable[str]) -> npt.NDArray[np.uint8]:
    """Return ids as bytes of UTF-8, which can be saved among arrays; see `unpacked`.

    Raises InputError if an id is empty or holds the character 0.
    """
    found = list(ids)
    wrong = [one for one in found if not one or SEPARATOR in one]
    if wrong:
        raise InputError(f"id {wrong[0]!r} cannot be saved: it is empty or holds the character 0")
    data = SEPARATOR.join(found).encode("utf-8", "surrogatepass")
    return np.frombuffer(data, np.uint8).copy()


def unpacked(data: npt.NDArray[np.uint8]) -> list[str]:
    """Return the ids that were packed.

    >>> unpacked(packed(["m.04ctbw8", "7"])), unpacked(packed([]))
    (['m.04ctbw8', '7'], [])
    """
    text = data.tobytes().decode("utf-8", "surrogatepass")
    return text.split(SEPARATOR) if text else []

"""Splits into what a model learns from and what it is judged by, saved with a hash.

A split gives every interaction one part. Each protocol is a function of the interactions and a
seed; none looks at the order of a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from persona_agent.errors import InputError, NotEnoughData
from persona_agent.recommend.data import BoolArray, Csr, Histories, Interactions, binary
from persona_agent.recommend.ids import IntArray
from persona_agent.types import Json

FORMAT = 1


class Part(IntEnum):
    """What an interaction serves for."""

    TRAIN = 0
    VALID = 1  # to be found, while models are chosen
    TEST = 2  # to be found, once
    VALID_HISTORY = 3  # of held-out people: what is folded in before VALID is to be found
    TEST_HISTORY = 4
    UNUSED = 5  # of an item that no training user has


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """What is known of people, what is to be found, and what must not be recommended besides.

    All have the same rows, and every row has something to find; a history may be empty.
    """

    histories: Histories
    wanted: Histories
    deny: Histories | None = None

    def __len__(self) -> int:
        return len(self.wanted)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Interactions and the part of each; `protocol` and `settings` say how they were dealt."""

    interactions: Interactions
    parts: npt.NDArray[np.int8]
    protocol: str
    settings: Mapping[str, Json]

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.interactions):
            raise ValueError(
                f"there are {len(self.parts)} parts for {len(self.interactions)} interactions"
            )
        self.parts.flags.writeable = False

    @property
    def train(self) -> Interactions:
        """What a model may learn from: the training users, and all items that are not unused."""
        rows = self._shared.take(self._parts == Part.TRAIN)
        users, user = np.unique(rows.user, return_inverse=True)
        return Interactions(
            rows.users.take(users), rows.items, user, rows.item, rows.values, rows.times
        )

    @property
    def valid(self) -> Holdout:
        """What models are chosen by."""
        return self._holdout(Part.VALID, Part.VALID_HISTORY)

    @property
    def test(self) -> Holdout:
        """What the chosen model is judged by; of the same users, VALID is not recommended."""
        return self._holdout(Part.TEST, Part.TEST_HISTORY)

    def fingerprint(self) -> str:
        """Return a hash of the interactions and their parts."""
        parts = self.parts.astype(np.int8).tobytes()
        return hashlib.sha256(self.interactions.fingerprint().encode() + parts).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write split.json and parts.npy; the interactions themselves are not written."""
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        np.save(home / "parts.npy", self.parts)
        header = {
            "format": FORMAT,
            "protocol": self.protocol,
            "settings": dict(self.settings),
            "interactions": self.interactions.fingerprint(),
            "fingerprint": self.fingerprint(),
        }
        (home / "split.json").write_text(json.dumps(header, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, interactions: Interactions) -> Split:
        """Return the split saved in `folder`; raises InputError if data or parts have changed."""
        home = Path(folder)
        try:
            header = json.loads((home / "split.json").read_text(encoding="utf-8"))
            parts = np.load(home / "parts.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{home} holds no saved split: {error}") from error
        if header.get("format") != FORMAT:
            raise InputError(f"{home} has format {header.get('format')!r}; {FORMAT} is read here")
        if header["interactions"] != interactions.fingerprint():
            raise InputError(f"{home} splits other interactions than these; make the split anew")
        found = cls(interactions, parts, header["protocol"], header["settings"])
        if header["fingerprint"] != found.fingerprint():
            raise InputError(f"{home}/parts.npy is not what split.json says; make the split anew")
        return found

    @property
    def _shared(self) -> Interactions:
        """All but the unused rows, over the items that occur in them."""
        used = self.interactions.take(self.parts != Part.UNUSED)
        items, item = np.unique(used.item, return_inverse=True)
        return Interactions(
            used.users, used.items.take(items), used.user, item, used.values, used.times
        )

    @property
    def _parts(self) -> npt.NDArray[np.int8]:
        used: npt.NDArray[np.int8] = self.parts[self.parts != Part.UNUSED]
        return used

    def _holdout(self, wanted: Part, history: Part) -> Holdout:
        rows, parts = self._shared, self._parts

        def matrix(*of: Part) -> Csr:
            chosen = np.isin(parts, of)
            shape = (len(rows.users), len(rows.items))
            return binary(rows.user[chosen], rows.item[chosen], shape)

        targets = matrix(wanted)
        people = np.flatnonzero(np.diff(targets.indptr))

        def histories(table: Csr) -> Histories:
            return Histories(rows.items, table[people], rows.users.ids[people])

        deny = histories(matrix(Part.VALID)) if wanted is Part.TEST else None
        return Holdout(
            histories(matrix(Part.TRAIN, history)),
            histories(targets),
            deny if deny is not None and deny.matrix.nnz else None,
        )


def strong(
    interactions: Interactions,
    *,
    seed: int,
    valid: float = 0.1,
    test: float = 0.1,
    fold_in: float = 0.8,
) -> Split:
    """Hold out whole users: of each, `fold_in` of the items are known and the rest to be found.

    At random; the part to be found is rounded down, but at least one of two or more. Items that
    no training user has are left out. Source: Liang et al. (2018), section 4.3.
    """
    _shares(valid, test)
    if not 0 < fold_in < 1:
        raise ValueError(f"fold_in is {fold_in}; it must be between 0 and 1")
    rng = np.random.default_rng(seed)
    people = len(interactions.users)
    n_valid, n_test = round(valid * people), round(test * people)
    if n_valid < 1 or n_test < 1 or n_valid + n_test >= people:
        raise NotEnoughData(f"{people} users cannot be split by {valid} and {test}")
    group = np.zeros(people, np.int8)
    shuffled = rng.permutation(people)
    group[shuffled[:n_valid]] = 1
    group[shuffled[n_valid : n_valid + n_test]] = 2
    place, count = _places(interactions, rng.random(len(interactions)))
    hidden = np.where(count >= 2, np.maximum((1 - fold_in) * count + 1e-9, 1), 0).astype(np.int64)
    found = place >= count - hidden
    whose = group[interactions.user]
    parts = np.select(
        [whose == 0, (whose == 1) & found, (whose == 2) & found, whose == 1],
        [Part.TRAIN, Part.VALID, Part.TEST, Part.VALID_HISTORY],
        Part.TEST_HISTORY,
    ).astype(np.int8)
    trained = np.bincount(interactions.item[parts == Part.TRAIN], minlength=len(interactions.items))
    parts[trained[interactions.item] == 0] = Part.UNUSED
    settings = {"seed": seed, "valid": valid, "test": test, "fold_in": fold_in}
    return Split(interactions, parts, "strong", settings)


def per_user(
    interactions: Interactions,
    *,
    seed: int,
    ratios: Sequence[float] = (8, 1, 1),
    by: Literal["random", "time"] = "random",
) -> Split:
    """Deal each user's interactions at random to train, valid and test by `ratios`.

    As RecBole 1.2.1 does with order RO, split RS and group_by user: valid and test are rounded
    down; one that would be empty gets one while train keeps more than one, test first. By "time"
    the latest are test and those before them valid, as its order TO does; `seed` means nothing
    then, and equal times go by item position.
    """
    if len(ratios) != 3 or min(ratios) < 0 or ratios[0] <= 0:
        raise ValueError(f"ratios are {ratios}; three are due, none below 0, the first above 0")
    if by not in ("random", "time"):
        raise ValueError(f"by is {by!r}; use random or time")
    rng = np.random.default_rng(seed)
    key = _times(interactions) if by == "time" else rng.random(len(interactions))
    place, count = _places(interactions, key)
    _, valid, test = (ratio / sum(ratios) for ratio in ratios)
    n_valid, n_test = (valid * count).astype(np.int64), (test * count).astype(np.int64)
    n_test += (test * count > 0) & (test * count < 1) & (count - n_valid - n_test > 1)
    n_valid += (valid * count > 0) & (valid * count < 1) & (count - n_valid - n_test > 1)
    settings: dict[str, Json] = {"seed": seed, "ratios": [float(one) for one in ratios]}
    if by == "time":
        settings["by"] = by
    return _ends(interactions, place, count, n_valid, n_test, "per_user", settings)


def leave_one_out(
    interactions: Interactions, *, by: Literal["time", "random"] = "time", seed: int = 0
) -> Split:
    """Hold out each user's last interaction for test and the last but one for valid.

    "random" takes any two instead, by `seed`. A user of two has no valid, of one neither.
    Equal times: the higher item position counts as later.
    """
    if by not in ("time", "random"):
        raise ValueError(f"by is {by!r}; use time or random")
    key = (
        _times(interactions)
        if by == "time"
        else np.random.default_rng(seed).random(len(interactions))
    )
    place, count = _places(interactions, key)
    n_test, n_valid = (count >= 2).astype(np.int64), (count >= 3).astype(np.int64)
    settings = {"by": by, "seed": seed}
    return _ends(interactions, place, count, n_valid, n_test, "leave_one_out", settings)


def global_time(interactions: Interactions, *, valid: float = 0.1, test: float = 0.1) -> Split:
    """Cut all interactions at two moments: what comes later is to be found.

    About `valid` and `test` of the interactions fall in each part; equal times are never parted,
    and stay in the earlier part. Users without earlier interactions have empty histories.
    Raises NotEnoughData if a part is empty.
    """
    _shares(valid, test)
    times = _times(interactions)
    ordered = np.sort(times)
    cuts = [1 - valid - test, 1 - test]
    first, second = (ordered[max(0, int(cut * len(times)) - 1)] for cut in cuts)
    parts = np.where(times <= first, Part.TRAIN, np.where(times <= second, Part.VALID, Part.TEST))
    if len(np.unique(parts)) < 3:
        raise NotEnoughData(
            f"{len(times)} interactions at {len(np.unique(times))} moments cannot be cut in three"
        )
    settings = {"valid": valid, "test": test}
    return Split(interactions, parts.astype(np.int8), "global_time", settings)


def _ends(
    interactions: Interactions,
    place: IntArray,
    count: IntArray,
    n_valid: IntArray,
    n_test: IntArray,
    protocol: str,
    settings: Mapping[str, Json],
) -> Split:
    """Give each user's last places to test and those before them to valid."""
    tested: BoolArray = place >= count - n_test
    validated = place >= count - n_test - n_valid
    parts = np.where(tested, Part.TEST, np.where(validated, Part.VALID, Part.TRAIN))
    return Split(interactions, parts.astype(np.int8), protocol, settings)


def _places(interactions: Interactions, key: npt.NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Return each interaction's place in its user's order by `key`, and that user's count."""
    counts = np.bincount(interactions.user, minlength=len(interactions.users))
    starts = np.cumsum(counts) - counts
    order = np.lexsort((interactions.item, key, interactions.user))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - starts[interactions.user[order]]
    return place, counts[interactions.user]


def _times(interactions: Interactions) -> IntArray:
    if interactions.times is None:
        raise InputError("these interactions have no times; read them with a time column")
    return interactions.times


def _shares(valid: float, test: float) -> None:
    if valid <= 0 or test <= 0 or valid + test >= 1:
        raise ValueError(f"valid is {valid} and test {test}; above 0, and below 1 in sum, are due")

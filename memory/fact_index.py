"""One user's facts beside the index of the events: placed in the order of events, and searched.

A fact is known from the last event that it was made from, and ends with the last event that its
successor was made from. So what a question about the past may find is settled by counting events,
as it is for the events themselves. A user has few facts: they are read anew when they change.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from persona_agent.memory.flat import FlatSearch
from persona_agent.memory.lexicon import Lexicon
from persona_agent.memory.ranking import decay
from persona_agent.memory.rows import microseconds
from persona_agent.memory.search import View
from persona_agent.types import Fact, FloatArray

FACT_BYTES = 1000  # of a fact and its evidence (measured)
NEVER = 2**62


class FactIndex:
    """The facts of a user, at the write to them that is numbered `seq`."""

    def __init__(
        self,
        seq: int,
        facts: Sequence[Fact],
        ranks: Mapping[str, int],
        whens: Sequence[int],
        vectors: Mapping[str, FloatArray],
    ) -> None:
        """Place facts among events: `ranks` by id, `whens` by rank. `vectors` are by fact."""
        self.seq = seq
        # A fact that rests on nothing is nobody's word, and is never found.
        self._facts = [one for one in facts if one.evidence]
        self._proof = [sorted(ranks[event] for event in one.evidence) for one in self._facts]
        since = {
            one.id: 1 + _last_of_first(one, proof, whens)
            for one, proof in zip(self._facts, self._proof, strict=True)
        }
        self._events = {ranks[event]: event for one in self._facts for event in one.evidence}
        self._since = np.array([since[one.id] for one in self._facts], np.int64)
        self._until = np.array([_end(one, since, whens) for one in self._facts], np.int64)
        self._whens = np.array([microseconds(one.valid_from) for one in self._facts], np.int64)
        self._confidence = np.array([one.confidence for one in self._facts], np.float64)
        self._lexicon = Lexicon()
        for one in self._facts:
            self._lexicon.add(one.text)
        self._flat: FlatSearch | None = None
        if self._facts:
            there = [rank for rank, one in enumerate(self._facts) if one.id in vectors]
            rows = [vectors[self._facts[rank].id] for rank in there]
            block = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
            self._flat = FlatSearch.filled(len(self._facts), there, block)

    @property
    def nbytes(self) -> int:
        """The memory this takes, by estimate."""
        flat = 0 if self._flat is None else self._flat.nbytes
        return FACT_BYTES * len(self._facts) + self._lexicon.nbytes + flat

    def missing(self) -> list[Fact]:
        """Return the facts that have no vector."""
        if self._flat is None or self._flat.is_whole:
            return []
        return [self._facts[rank] for rank in np.flatnonzero(~self._flat.present)]

    def view(
        self,
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
        *,
        now: int,
        half_life: float | None,
        salience: bool,
    ) -> View | None:
        """Return the facts that were held when the first `end` events had happened; None if none.

        With `allowed`, those whose evidence of then is all allowed. `now` is what ages are counted
        from, in microseconds; see `View`.
        """
        if self._flat is None:
            return None
        held = (self._since <= end) & (self._until > end)
        if allowed is not None:
            for rank in np.flatnonzero(held):
                proof = [one for one in self._proof[rank] if one < end]
                held[rank] = bool(allowed[proof].all())
        if not held.any():
            return None
        return View(
            self._flat,
            self._lexicon,
            len(self._facts),
            held,
            None if half_life is None else decay((now - self._whens) / 1e6, half_life),
            self._confidence if salience else None,
        )

    def known(self, rank: int, end: int) -> Fact:
        """Return a fact as it was when the first `end` events had happened and it was held."""
        proof = tuple(self._events[one] for one in self._proof[rank] if one < end)
        return replace(self._facts[rank], evidence=proof, valid_until=None, superseded_by=None)


def _last_of_first(one: Fact, proof: Sequence[int], whens: Sequence[int]) -> int:
    """Return the last event that a fact was made from; what repeats it later is not counted."""
    made = microseconds(one.valid_from)
    return max((rank for rank in proof if whens[rank] <= made), default=proof[-1])


def _end(one: Fact, since: Mapping[str, int], whens: Sequence[int]) -> int:
    """Return how many events there are when a fact ends."""
    if one.superseded_by is not None and one.superseded_by in since:
        return since[one.superseded_by]
    if one.valid_until is None:
        return NEVER
    return bisect_left(whens, microseconds(one.valid_until)) + 1

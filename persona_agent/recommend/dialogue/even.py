"""Which attributes split a set of candidates most evenly, remembered for sets met before."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.data import Csr
from persona_agent.recommend.dialogue.entries import keep, looked_up, row_of
from persona_agent.recommend.dialogue.leading import leading
from persona_agent.recommend.dialogue.state import NONE, UNASKED, Beliefs
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray

LISTED = 16  # one more than most dialogues have turns
RARE = 20  # what fewer than one in so many candidates have, or have not, is not listed


@dataclass(frozen=True, slots=True, eq=False)
class EvenSplits:
    """The attributes that split candidates most evenly, by sets of candidates.

    Whether an attribute splits a set evenly does not depend on what was asked: after a no that
    leaves all candidates, the next question is the next of the list. At most `most` lists are
    remembered.
    """

    table: AttributeTable
    most: int = 100_000
    _lists: dict[int, IntArray] = field(default_factory=dict)

    def question(self, beliefs: Beliefs) -> IntArray:
        """Return the unasked attribute that splits each dialogue's candidates most evenly.

        NONE where there is none; of several that are even alike, the first.
        """
        prints = beliefs.candidate_prints()
        self._learn(beliefs, prints)
        listed = np.stack([self._lists[one] for one in prints.tolist()])
        rows = np.arange(len(beliefs))
        free = (listed != NONE) & (looked_up(beliefs.said, rows[:, None], listed) == UNASKED)
        found: IntArray = np.where(free.any(axis=1), listed[rows, free.argmax(axis=1)], NONE)
        rest = np.flatnonzero(found == NONE)  # the list was too short, or there is nothing to ask
        if len(rest):
            found[rest] = self._directly(beliefs.take(rest))
        return found

    def _learn(self, beliefs: Beliefs, prints: npt.NDArray[np.uint64]) -> None:
        known, first = np.unique(prints, return_index=True)
        if len(self._lists) > self.most:
            self._lists.clear()
        new = np.array([one not in self._lists for one in known.tolist()], bool)
        if not new.any():
            return
        mass, sizes = entries_that_split(self.table, beliefs.take(first[new]))
        whole = sizes[row_of(mass)]
        common = np.minimum(mass.data, whole - mass.data) * RARE >= whole
        lists = leading(keep(mass, common), _evenness(mass.data, whole)[common], LISTED)
        self._lists.update(zip(known[new].tolist(), lists, strict=True))

    def _directly(self, beliefs: Beliefs) -> IntArray:
        mass, sizes = entries_that_split(self.table, beliefs)
        owner = row_of(mass)
        free = beliefs.answers[owner, mass.indices] == UNASKED
        chosen: IntArray = leading(keep(mass, free), _evenness(mass.data, sizes[owner])[free], 1)[
            :, 0
        ]
        return chosen


def entries_that_split(table: AttributeTable, beliefs: Beliefs) -> tuple[Csr, IntArray]:
    """Return how many candidates have each attribute, where some but not all do, and their number.

    The first is CSR (dialogues, attributes), of attributes whether asked about or not.
    """
    mass = beliefs.candidates @ table.has
    sizes = beliefs.sizes()
    return keep(mass, mass.data < sizes[row_of(mass)]), sizes


def _evenness(mass: npt.NDArray[np.float32], sizes: IntArray) -> IntArray:
    """Return whole numbers, so that attributes that split alike are told apart by their order."""
    found: IntArray = -abs(2 * mass.astype(np.int64) - sizes)
    return found

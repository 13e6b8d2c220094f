"""What is known in each of many dialogues: values, and what an answer makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from persona_agent.recommend.data import BoolArray, Csr, binary
from persona_agent.recommend.dialogue.chance import mixed
from persona_agent.recommend.dialogue.entries import (
    keep,
    listed,
    replaced,
    row_of,
    values_at,
    where,
)
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray

Answers = npt.NDArray[np.int8]

# What is known of an attribute. "Don't know" is an answer, too: it is not asked again.
UNASKED: Final = 0
ACCEPTED: Final = 1
REJECTED: Final = -1
UNKNOWN: Final = 2

NONE: Final = -1  # no attribute, no item: what rows are filled up with


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """The state of a batch of dialogues, a row each; a single dialogue is a batch of one.

    `candidates` and `refused` are CSR of 1, (dialogues, items): what may still be wanted, and
    what was shown and was not. `said` is CSR (dialogues, attributes) of ACCEPTED, REJECTED and
    UNKNOWN; what has no entry is UNASKED. `turn` counts the questions and lists so far.
    """

    candidates: Csr
    refused: Csr
    said: Csr
    turn: IntArray

    def __len__(self) -> int:
        return len(self.turn)

    def take(self, rows: IntArray | BoolArray | slice) -> Beliefs:
        """Return these dialogues, in their order; the same beliefs if these are all."""
        everything = np.arange(len(self))
        if (
            isinstance(rows, np.ndarray)
            and rows.dtype.kind == "i"
            and np.array_equal(rows, everything)
        ):
            return self  # most turns take all
        return Beliefs(self.candidates[rows], self.refused[rows], self.said[rows], self.turn[rows])

    @property
    def answers(self) -> Answers:
        """The answers as a new dense table: a byte for each attribute of each dialogue."""
        dense: Answers = self.said.toarray()
        return dense

    def sizes(self) -> IntArray:
        """Return how many candidates each dialogue has left."""
        return np.diff(self.candidates.indptr).astype(np.int64)

    def candidate_prints(self) -> npt.NDArray[np.uint64]:
        """Return a number for each dialogue: where the candidates are the same, so is it.

        Others have the same by a chance of one in 2^64.
        """
        zero = np.zeros(1, np.int64)
        each = mixed("candidate", np.arange(self.candidates.shape[1]), zero)
        # sums of 64 bits wrap round
        total = np.concatenate(
            [zero.astype(np.uint64), np.cumsum(each[self.candidates.indices], dtype=np.uint64)]
        )
        bounds = total[self.candidates.indptr]
        prints: npt.NDArray[np.uint64] = bounds[1:] - bounds[:-1]
        return prints

    def possible(self, row: int) -> IntArray:
        """Return the positions of the candidates of one dialogue, ascending."""
        bounds = self.candidates.indptr[row : row + 2]
        found: IntArray = self.candidates.indices[slice(*bounds)].astype(np.int64)
        return found


def begin(table: AttributeTable, dialogues: int = 1) -> Beliefs:
    """Return beliefs in which everything is possible and nothing was said."""
    everything = np.tile(np.arange(len(table)), dialogues)
    owner = np.repeat(np.arange(dialogues), len(table))
    shape = (dialogues, len(table))
    none = np.empty(0, np.int64)
    return Beliefs(
        binary(owner, everything, shape),
        binary(none, none, shape),
        sparse.csr_array((dialogues, len(table.attributes)), dtype=np.int8),
        np.zeros(dialogues, np.int64),
    )


def open_with(table: AttributeTable, attributes: IntArray) -> Beliefs:
    """Return beliefs after each dialogue's user has named one attribute of what is wanted."""
    if len(attributes) and not 0 <= attributes.min() <= attributes.max() < len(table.attributes):
        raise ValueError(
            f"attributes are {attributes.min()} to {attributes.max()}; "
            f"there are {len(table.attributes)}"
        )
    nothing = sparse.csr_array((len(attributes), len(table.attributes)), dtype=np.int8)
    named = np.full(len(attributes), ACCEPTED, np.int8)
    said = _told(nothing, np.arange(len(attributes)), attributes, named)
    none = np.empty(0, np.int64)
    refused = binary(none, none, (len(attributes), len(table)))
    return Beliefs(table.had_by[attributes], refused, said, np.zeros(len(attributes), np.int64))


def answer(
    table: AttributeTable,
    beliefs: Beliefs,
    attributes: IntArray,
    answers: Answers,
    *,
    drop_rejected: bool = False,
    narrow: bool = True,
    turns: int = 1,
) -> Beliefs:
    """Return the beliefs after answers about attributes, both of shape (dialogues, width).

    A question may be about several attributes; NONE fills up a row, and a row of NONE only leaves
    its dialogue as it was, but for the turn. Candidates without an accepted attribute go. Those
    with a rejected one stay, as in the simulator of EAR, SCPR and UNICORN, unless `drop_rejected`.
    Without `narrow` all stay: for people who may err, see `mismatches`.
    """
    owner, column = np.nonzero(attributes != NONE)
    said, kind = attributes[owner, column], answers[owner, column]
    known = _told(beliefs.said, owner, said, kind)
    candidates = beliefs.candidates
    for narrows, meant in ((narrow, ACCEPTED), (narrow and drop_rejected, REJECTED)):
        now = kind == meant
        if narrows and now.any():
            asked = binary(owner[now], said[now], known.shape)
            candidates = _narrowed(table, candidates, asked, have=meant == ACCEPTED)
    return replace(beliefs, candidates=candidates, said=known, turn=beliefs.turn + turns)


def refuse(beliefs: Beliefs, items: IntArray, *, turns: int = 1) -> Beliefs:
    """Return the beliefs after lists (dialogues, width) of which nothing was wanted.

    NONE fills up a row.
    """
    shown = listed(items, beliefs.candidates.shape, NONE)
    rows = np.flatnonzero(np.diff(shown.indptr))
    before = beliefs.candidates[rows]
    left = keep(before, values_at(shown[rows], before) == 0)
    candidates = replaced(beliefs.candidates, rows, left)
    refused = beliefs.refused.maximum(shown).tocsr()
    return replace(beliefs, candidates=candidates, refused=refused, turn=beliefs.turn + turns)


def reconsider(table: AttributeTable, beliefs: Beliefs, *, drop_rejected: bool = False) -> Beliefs:
    """Return the beliefs with candidates anew from answers and refused items.

    For dialogues whose past was changed: somebody took back what he had said.
    """
    fresh = begin(table, len(beliefs))
    answers = beliefs.answers
    attributes = np.broadcast_to(np.arange(answers.shape[1]), answers.shape)
    said = np.where(answers == UNASKED, NONE, attributes)
    found = answer(table, fresh, said, answers, drop_rejected=drop_rejected)
    left = keep(found.candidates, values_at(beliefs.refused, found.candidates) == 0)
    return replace(beliefs, candidates=left)


def without(beliefs: Beliefs, row: int, attribute: int) -> Beliefs:
    """Return the beliefs with one answer taken back; call `reconsider` when all are."""
    said = beliefs.said
    return replace(beliefs, said=keep(said, (row_of(said) != row) | (said.indices != attribute)))


def mismatches(table: AttributeTable, said: Csr) -> npt.NDArray[np.float32]:
    """Return (dialogues, items): how many answers, as `Beliefs.said`, speak against each item.

    An accepted attribute that it lacks, or a rejected one that it has. For beliefs that may err.
    """
    yes, no = where(said, ACCEPTED), where(said, REJECTED)
    given = np.diff(yes.indptr).astype(np.float32)
    signed = (no - yes) @ table.had_by
    found: npt.NDArray[np.float32] = given[:, None] + signed.toarray()
    return found


def contradictions(table: AttributeTable, beliefs: Beliefs) -> npt.NDArray[np.float32]:
    """Return how many answers speak against each candidate: `mismatches`, at the candidates."""
    candidates = beliefs.candidates
    yes, no = where(beliefs.said, ACCEPTED), where(beliefs.said, REJECTED)
    given = np.diff(yes.indptr).astype(np.float32)[row_of(candidates)]
    found: npt.NDArray[np.float32] = given + values_at((no - yes) @ table.had_by, candidates)
    return found


def _told(said: Csr, owner: IntArray, attributes: IntArray, kinds: Answers) -> Csr:
    """Return the answers with these besides; of several about one attribute the last counts."""
    columns = np.concatenate([said.indices, attributes])
    data = np.concatenate([said.data, kinds])
    keys = np.concatenate([row_of(said), owner]) * said.shape[1] + columns
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    last = order[ordered != np.append(ordered[1:], NONE)]  # no key is NONE
    last = last[data[last] != UNASKED]
    indptr = np.searchsorted(keys[last], np.arange(said.shape[0] + 1) * said.shape[1])
    return sparse.csr_array((data[last], columns[last], indptr), shape=said.shape)


def _narrowed(table: AttributeTable, candidates: Csr, asked: Csr, *, have: bool) -> Csr:
    """Return the candidates that have all, or none, of the attributes asked about."""
    rows = np.flatnonzero(np.diff(asked.indptr))  # the others stay as they are
    before, about = candidates[rows], asked[rows]
    if not have:
        left = keep(before, values_at(about @ table.had_by, before) == 0)
        return replaced(candidates, rows, left)
    # where each is asked about one attribute, the product with the table is its row
    single = len(about.indices) == len(rows)
    had = before.multiply(table.had_by[about.indices] if single else about @ table.had_by).tocsr()
    due = np.diff(about.indptr)
    left = keep(had, had.data >= due[row_of(had)]).sorted_indices()
    left.data[:] = 1
    return replaced(candidates, rows, left)

"""Ask about the attribute that splits the candidates best, and show items when few are left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np

from persona_agent.recommend.data import BoolArray, Csr
from persona_agent.recommend.dialogue.chance import uniform
from persona_agent.recommend.dialogue.entries import keep, row_of, with_data
from persona_agent.recommend.dialogue.environment import Actions
from persona_agent.recommend.dialogue.even import EvenSplits
from persona_agent.recommend.dialogue.leading import leading
from persona_agent.recommend.dialogue.policy import Situation, nothing
from persona_agent.recommend.dialogue.scores import ItemScores
from persona_agent.recommend.dialogue.state import UNASKED, Beliefs
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

When: TypeAlias = Literal["few", "chance"]


@dataclass(frozen=True, slots=True, eq=False)
class EntropyPolicy:
    """Asks about the attribute of largest entropy among the candidates, each weighing the same.

    With `weighted`, a candidate weighs sigmoid of its score. A list of the `shown` candidates that
    `scores` likes best is shown `when` only so many are left ("few", as UNICORN's tests do), or
    with the chance that a random list of them has the target ("chance", as the baseline of EAR and
    SCPR does); and in the last turn, and where there is nothing to ask.
    """

    table: AttributeTable
    scores: ItemScores
    weighted: bool = False
    when: When = "few"
    shown: int = 10
    _even: EvenSplits = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_even", EvenSplits(self.table))
        if self.when not in get_args(When):
            raise ValueError(
                f"when is {self.when!r}; it must be one of {', '.join(get_args(When))}"
            )

    def act(self, now: Situation) -> Actions:
        sizes = now.beliefs.sizes()
        shows = (sizes <= self.shown) | (now.left == 1)
        if self.when == "chance":
            turn = now.beliefs.turn
            shows |= uniform("show", now.numbers, turn) * sizes < self.shown
        found = nothing(len(now), 1, self.shown)
        asking = np.flatnonzero(~shows)
        if len(asking):
            found.ask[asking, 0] = self.question(now.take(asking))
            shows[asking] = found.ask[asking, 0] < 0
        showing = np.flatnonzero(shows)
        if len(showing):
            found.show[showing] = best_items(self.scores, now.take(showing), self.shown)
        return found

    def question(self, now: Situation) -> IntArray:
        """Return the attribute to ask about in each dialogue, NONE where there is none."""
        if self.weighted:
            weights = sigmoid(self.scores.at(now.beliefs, now.users))
            mass, whole = masses(self.table, now.beliefs, weights)
            by_weight: IntArray = leading(mass, -abs(2 * mass.data - whole[row_of(mass)]), 1)[:, 0]
            return by_weight
        return self._even.question(now.beliefs)


def masses(
    table: AttributeTable, beliefs: Beliefs, weights: FloatArray | None
) -> tuple[Csr, FloatArray]:
    """Return how much weight of candidates has each attribute that can be asked, and all of it.

    The first is CSR (dialogues, attributes) of attributes that some but not
    all candidates have and that were not asked about; the second (dialogues,). `weights` are of
    the candidates, None for 1 each. Of attributes with mass m of a whole w, the one of largest
    entropy has the smallest |2 m - w|: entropy falls with the distance of m / w from a half.
    """
    candidates = beliefs.candidates
    weighing = candidates if weights is None else with_data(candidates, weights)
    mass = weighing @ table.has
    whole = np.bincount(row_of(candidates), weighing.data, minlength=len(beliefs))
    open_ = askable(mass, whole.astype(np.float32), beliefs)
    return keep(mass, open_), whole.astype(np.float32)


def askable(mass: Csr, whole: FloatArray, beliefs: Beliefs) -> BoolArray:
    """Return which entries are of attributes that were not asked, and that split the whole."""
    owner = row_of(mass)
    asked = beliefs.answers[owner, mass.indices] != UNASKED
    # a whole number of candidates is exact; sums of weights are not, to the last bits
    splits = (mass.data > 0) & (mass.data < whole[owner] * (1 - 1e-6))
    found: BoolArray = ~asked & splits
    return found


def best_items(scores: ItemScores, now: Situation, shown: int) -> IntArray:
    """Return (dialogues, shown): each dialogue's candidates of highest score, best first."""
    candidates = now.beliefs.candidates
    return leading(candidates, scores.at(now.beliefs, now.users), shown)


def sigmoid(scores: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-score))."""
    found: FloatArray = (1 / (1 + np.exp(-scores))).astype(np.float32)
    return found


def entropy(share: FloatArray) -> FloatArray:
    """Return the entropy in bits of yes and no, for the share of yes.

    >>> entropy(np.array([0, 0.5, 1])).tolist()
    [0.0, 1.0, 0.0]
    """
    inside = np.clip(share, 1e-12, 1 - 1e-12)
    bits = -inside * np.log2(inside) - (1 - inside) * np.log2(1 - inside)
    found: FloatArray = np.where((share <= 0) | (share >= 1), 0.0, bits)
    return found

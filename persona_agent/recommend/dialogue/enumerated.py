"""Questions about a kind of attributes: which of these do you want?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.dialogue.entries import keep, row_of, with_data
from persona_agent.recommend.dialogue.entropy import best_items, entropy, masses
from persona_agent.recommend.dialogue.environment import Actions
from persona_agent.recommend.dialogue.leading import leading
from persona_agent.recommend.dialogue.policy import Situation, nothing
from persona_agent.recommend.dialogue.scores import ItemScores
from persona_agent.recommend.dialogue.state import NONE
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class EnumeratedPolicy:
    """Asks about the kind whose attributes have most entropy in all, listing the best `listed`.

    The user names those that hold. Items are shown where `shown` are left or fewer, in the last
    turn, and where there is nothing to ask.
    """

    table: AttributeTable
    scores: ItemScores
    listed: int = 5
    shown: int = 10

    def act(self, now: Situation) -> Actions:
        shows = (now.beliefs.sizes() <= self.shown) | (now.left == 1)
        found = nothing(len(now), self.listed, self.shown)
        asking = np.flatnonzero(~shows)
        if len(asking):
            found.ask[asking] = self.question(now.take(asking))
            shows[asking] = found.ask[asking, 0] == NONE
        showing = np.flatnonzero(shows)
        if len(showing):
            found.show[showing] = best_items(self.scores, now.take(showing), self.shown)
        return found

    def question(self, now: Situation) -> IntArray:
        """Return (dialogues, listed): attributes of one kind each, the most telling first."""
        mass, whole = masses(self.table, now.beliefs, None)
        bits = entropy(mass.data / whole[row_of(mass)])
        by_kind = (with_data(mass, bits) @ self.table.kinds_of).toarray()
        kind = by_kind.argmax(axis=1)
        member = self.table.kinds_of.toarray() > 0  # (attributes, kinds)
        of_kind = member[mass.indices, kind[row_of(mass)]]
        return leading(keep(mass, of_kind), bits[of_kind], self.listed)

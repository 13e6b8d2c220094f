"""The port of policies, and what one sees of a batch of dialogues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from persona_agent.recommend.data import BoolArray
from persona_agent.recommend.dialogue.environment import Actions
from persona_agent.recommend.dialogue.state import NONE, Beliefs
from persona_agent.recommend.ids import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """A batch of dialogues in which the system is to act: it sees neither targets nor openings.

    `users` are positions in the users that scores know; `numbers` name the episodes, for chance;
    `left` is how many turns there are, this one included.
    """

    beliefs: Beliefs
    users: IntArray
    numbers: IntArray
    left: int

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: IntArray | BoolArray) -> Situation:
        """Return these dialogues, in their order."""
        return Situation(self.beliefs.take(rows), self.users[rows], self.numbers[rows], self.left)


class Policy(Protocol):
    """Decides what to do next in each dialogue; a row of its actions depends on that row only."""

    def act(self, now: Situation) -> Actions:
        """Return an action for each dialogue."""
        ...


def nothing(dialogues: int, asked: int = 1, shown: int = 10) -> Actions:
    """Return actions that neither ask nor show."""
    return Actions(
        np.full((dialogues, asked), NONE, np.int64), np.full((dialogues, shown), NONE, np.int64)
    )

"""UNICORN as a policy: the action that is worth most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.dialogue.entropy import best_items
from persona_agent.recommend.dialogue.environment import Actions
from persona_agent.recommend.dialogue.policy import Situation, nothing
from persona_agent.recommend.dialogue.scores import VectorScores
from persona_agent.recommend.dialogue.state import NONE
from persona_agent.recommend.dialogue.unicorn.learner import Learner, choose
from persona_agent.recommend.dialogue.unicorn.states import States, states_of
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class UnicornPolicy:
    """Acts by a learner's worths; where few candidates are left, or one turn, it shows the best.

    That rule is the released test's, and not used in training.
    """

    learner: Learner
    scores: VectorScores

    def act(self, now: Situation) -> Actions:
        shown = self.learner.network.settings.items
        found = nothing(len(now), 1, shown)
        shows = (now.beliefs.sizes() <= shown) | (now.left == 1)
        rows = np.flatnonzero(~shows)
        if len(rows):
            states = states_of(self.scores, self.learner.network.settings, now.take(rows))
            action, worths = choose(self.learner.worths(states))
            chosen = to_actions(states, action, worths, len(self.scores.table), shown)
            found.ask[rows], found.show[rows] = chosen.ask, chosen.show
        rows = np.flatnonzero(shows)
        if len(rows):
            found.show[rows] = best_items(self.scores, now.take(rows), shown)
        return found


def to_actions(
    states: States, action: IntArray, worths: FloatArray, items: int, shown: int
) -> Actions:
    """Return what actions mean: a question, or where it is an item the list of items by worth."""
    found = nothing(len(states), 1, shown)
    chosen = np.take_along_axis(states.actions, action[:, None], axis=1)[:, 0].astype(np.int64)
    asks = chosen >= items
    found.ask[asks, 0] = chosen[asks] - items
    order = np.argsort(-worths[:, :shown], axis=1, kind="stable")
    lists = np.take_along_axis(states.actions[:, :shown], order, axis=1)
    shows = ~asks & (chosen != NONE)
    found.show[shows] = lists[shows]
    return found

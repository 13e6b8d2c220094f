"""Run a policy through many episodes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.dialogue import environment
from persona_agent.recommend.dialogue.environment import Episodes, Rules
from persona_agent.recommend.dialogue.policy import Policy, Situation
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

BATCH = 1000  # dialogues side by side: their answers take 8 MB on Last.FM*


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How each episode ended, a row each.

    `turn` is the turn, from 1, in which the target was shown, 0 if it never was; `rank` its place
    in that list, from 1; `asked` how many questions were asked; `reward` the sum of rewards.
    """

    turn: IntArray
    rank: IntArray
    asked: IntArray
    reward: FloatArray

    def __len__(self) -> int:
        return len(self.turn)


def simulate(
    table: AttributeTable,
    policy: Policy,
    episodes: Episodes,
    rules: Rules,
    *,
    batch: int = BATCH,
    on_done: Callable[[int], None] | None = None,
) -> Outcomes:
    """Return how every episode ended; `on_done` is told how many have, after each batch."""
    count = len(episodes)
    turn, rank, asked = np.zeros((3, count), np.int64)
    found = Outcomes(turn, rank, asked, np.zeros(count, np.float32))
    for first in range(0, count, batch):
        rows = np.arange(first, min(first + batch, count))
        _run(table, policy, episodes.take(rows), rules, found, rows)
        if on_done is not None:
            on_done(int(rows[-1]) + 1)
    return found


def _run(
    table: AttributeTable,
    policy: Policy,
    episodes: Episodes,
    rules: Rules,
    found: Outcomes,
    rows: IntArray,
) -> None:
    """Play these episodes to the end and write how they ended to `rows` of `found`."""
    beliefs = environment.begin(table, episodes)
    for turn in range(1, rules.turns + 1):
        now = Situation(beliefs, episodes.user, episodes.number, rules.turns - turn + 1)
        actions = policy.act(now)
        done = environment.step(table, rules, episodes, beliefs, actions)
        found.reward[rows] += done.reward
        found.asked[rows] += actions.asks
        hit = done.rank > 0
        found.turn[rows[hit]] = turn
        found.rank[rows[hit]] = done.rank[hit]
        going = np.flatnonzero(~done.over)
        rows, episodes, beliefs = rows[going], episodes.take(going), done.beliefs.take(going)
        if not len(rows):
            return
    found.reward[rows] += rules.ended

"""Ask along paths of attributes, and learn from turn and number of candidates when to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.data import BoolArray, Interactions
from persona_agent.recommend.dialogue import environment
from persona_agent.recommend.dialogue.entropy import EntropyPolicy, best_items
from persona_agent.recommend.dialogue.environment import Actions, Rules
from persona_agent.recommend.dialogue.policy import Situation, nothing
from persona_agent.recommend.dialogue.scores import ItemScores
from persona_agent.recommend.dialogue.state import ACCEPTED, NONE
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

SIZES = 14  # powers of two that the number of candidates is told by


@dataclass(frozen=True, slots=True, eq=False)
class PathPolicy:
    """After SCPR: the next attribute is one that shares candidates with those accepted.

    Among these it asks by weighted entropy; whether it asks or shows is by `worth`
    (turns, sizes, 2), what each is worth in that turn with so many candidates, which
    `learn_worth` finds by trial. Theirs is a deep Q-network over the same two and what came of
    each turn. Source: Lei et al. (2020), SCPR, by what its released code does; second-hand.
    """

    table: AttributeTable
    scores: ItemScores
    worth: FloatArray
    shown: int = 10

    def act(self, now: Situation) -> Actions:
        turn, size = cells(now)
        turn = np.minimum(turn, len(self.worth) - 1)
        ask, show = self.worth[turn, size].T
        return self.chosen(now, (show >= ask) | (now.left == 1))

    def chosen(self, now: Situation, shows: BoolArray) -> Actions:
        """Return what asking, or showing where `shows`, means in each dialogue."""
        shows = shows | (now.beliefs.sizes() <= self.shown)
        found = nothing(len(now), 1, self.shown)
        asking = np.flatnonzero(~shows)
        if len(asking):
            asks = EntropyPolicy(self.table, self.scores, weighted=True, shown=self.shown)
            found.ask[asking, 0] = asks.question(now.take(asking))
            shows[asking] = found.ask[asking, 0] == NONE
        showing = np.flatnonzero(shows)
        if len(showing):
            found.show[showing] = best_items(self.scores, now.take(showing), self.shown)
        return found


def path(now: Situation, row: int) -> IntArray:
    """Return the attributes that one dialogue has walked along: those accepted, by position."""
    said = now.beliefs.said
    own = slice(*said.indptr[row : row + 2])
    found: IntArray = said.indices[own][said.data[own] == ACCEPTED].astype(np.int64)
    return found


def cells(now: Situation) -> tuple[IntArray, IntArray]:
    """Return the turn of each dialogue, and the size of its candidates in powers of two."""
    sizes = np.maximum(now.beliefs.sizes(), 1)
    return now.beliefs.turn, np.minimum(np.log2(sizes).astype(np.int64), SIZES - 1)


def learn_worth(
    table: AttributeTable,
    scores: ItemScores,
    rules: Rules,
    wanted: Interactions,
    *,
    rounds: int = 20,
    episodes: int = 500,
    explore: float = 0.2,
    seed: int = 0,
    on_round: Callable[[int, float], None] | None = None,
) -> FloatArray:
    """Return (turns, sizes, 2): the mean sum of later rewards after asking, and after showing.

    By trial on episodes drawn from `wanted`, each choice turned round with the chance `explore`;
    recent rounds count more. `on_round` gets number and mean reward.
    """
    rng = np.random.default_rng(seed)
    worth = np.zeros((rules.turns, SIZES, 2), np.float32)
    seen = np.zeros(worth.shape, np.float64)
    for number in range(1, rounds + 1):
        policy = PathPolicy(table, scores, worth, rules.shown)
        drawn = environment.drawn(table, wanted, episodes, rng)
        total = np.zeros(worth.shape, np.float64)
        count = np.zeros(worth.shape, np.float64)
        reward = _play(table, rules, drawn, policy, rng, explore, total, count)
        seen = 0.8 * seen + count
        change = np.divide(total - count * worth, seen, out=np.zeros_like(total), where=seen > 0)
        worth = (worth + change).astype(np.float32)
        if on_round is not None:
            on_round(number, reward)
    return worth


def _play(
    table: AttributeTable,
    rules: Rules,
    episodes: environment.Episodes,
    policy: PathPolicy,
    rng: np.random.Generator,
    explore: float,
    total: npt.NDArray[np.float64],
    count: npt.NDArray[np.float64],
) -> float:
    """Play the episodes, add the later rewards of each choice to `total`, and return their mean."""
    beliefs = environment.begin(table, episodes)
    rows = np.arange(len(episodes))
    rewards = np.zeros((rules.turns, len(episodes)))
    steps: list[tuple[int, IntArray, IntArray, IntArray]] = []
    for turn in range(rules.turns):
        now = Situation(beliefs, episodes.user, episodes.number, rules.turns - turn)
        when, size = cells(now)
        ask, show = policy.worth[when, size].T
        shows = (show >= ask) ^ (rng.random(len(rows)) < explore)
        actions = policy.chosen(now, shows | (now.left == 1))
        done = environment.step(table, rules, episodes, beliefs, actions)
        rewards[turn, rows] = done.reward
        steps.append((turn, size, np.where(actions.asks, 0, 1), rows))
        going = np.flatnonzero(~done.over)
        if turn == rules.turns - 1:
            rewards[turn, rows[going]] += rules.ended
        rows, episodes, beliefs = rows[going], episodes.take(going), done.beliefs.take(going)
        if not len(rows):
            break
    later = rewards[::-1].cumsum(axis=0)[::-1]
    for turn, size, choice, who in steps:
        np.add.at(total[turn], (size, choice), later[turn, who])
        np.add.at(count[turn], (size, choice), 1)
    return float(later[0].mean())

"""The simulated dialogue as a Gymnasium environment, for anybody's learner."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from persona_agent.errors import BackendError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue import environment
from persona_agent.recommend.dialogue.entries import row_of
from persona_agent.recommend.dialogue.entropy import best_items, entropy, masses
from persona_agent.recommend.dialogue.environment import Episodes, Rules
from persona_agent.recommend.dialogue.leading import leading_entries
from persona_agent.recommend.dialogue.policy import Situation, nothing
from persona_agent.recommend.dialogue.scores import ItemScores
from persona_agent.recommend.dialogue.state import NONE, Beliefs
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

if find_spec("gymnasium") is None:
    raise BackendError(
        "this environment needs gymnasium, which is not installed; run: "
        'pip install "persona-agent-framework[recommend]"'
    )

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

if TYPE_CHECKING:
    from numpy.random import Generator

Column = npt.NDArray[Any]  # Any: rewards are floats, ends are flags
UNICORN_RULES = Rules()
MOST_BITS = 64.0  # of a number of candidates
Info = dict[str, Any]  # Any: Gymnasium's own


class DialogueVectorEnv(VectorEnv[FloatArray, IntArray, Column]):
    """Many dialogues side by side, as Gymnasium's vector environments are.

    Action 0 shows the items of highest score; action n asks about the n-th attribute offered, which
    are the `offered` of largest entropy. An observation is float32 of 3 + 2 * `offered`: the share
    of turns that are over, log2 of the number of candidates, the share of them that a list shows,
    and of each attribute offered the share of candidates that have it, and its entropy in bits; 0
    where there are fewer. `info["action_mask"]` says which actions mean something; one that does
    not shows items. A dialogue that ended begins anew in the next step, which ignores its action.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  # theirs

    def __init__(
        self,
        table: AttributeTable,
        scores: ItemScores,
        wanted: Interactions,
        rules: Rules = UNICORN_RULES,
        *,
        dialogues: int = 1,
        offered: int = 10,
    ) -> None:
        """Draw episodes from `wanted`; `dialogues` go on at once."""
        self.table, self.scores, self.wanted, self.rules = table, scores, wanted, rules
        self.num_envs, self.offered = dialogues, offered
        width = 3 + 2 * offered
        self.single_observation_space = spaces.Box(0, MOST_BITS, (width,), np.float32)
        self.single_action_space = spaces.Discrete(1 + offered)
        self.observation_space = batch_space(self.single_observation_space, dialogues)
        self.action_space = batch_space(self.single_action_space, dialogues)
        self._over = np.zeros(dialogues, bool)

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[FloatArray, Info]:
        super().reset(seed=seed)
        self._episodes = self._drawn(self.num_envs)
        self._beliefs = environment.begin(self.table, self._episodes)
        self._over = np.zeros(self.num_envs, bool)
        return self._observed()

    def step(self, actions: IntArray) -> tuple[FloatArray, Column, Column, Column, Info]:
        chosen = np.asarray(actions, np.int64)
        if (
            chosen.shape != (self.num_envs,)
            or not 0 <= chosen.min() <= chosen.max() <= self.offered
        ):
            raise ValueError(
                f"actions are {chosen.tolist()}; {self.num_envs} of 0 to {self.offered} are due"
            )
        asked = np.where(chosen > 0, self._questions[np.arange(len(chosen)), chosen - 1], NONE)
        made = nothing(self.num_envs, 1, self.rules.shown)
        made.ask[:, 0] = np.where(self._over, NONE, asked)
        showing = np.flatnonzero((asked == NONE) & ~self._over)
        if len(showing):
            made.show[showing] = best_items(
                self.scores, self._situation().take(showing), self.rules.shown
            )
        before = self._over
        done = environment.step(self.table, self.rules, self._episodes, self._beliefs, made)
        out_of_turns = (done.beliefs.turn >= self.rules.turns) & ~done.over
        reward = done.reward + np.where(out_of_turns, self.rules.ended, 0).astype(np.float32)
        reward[before] = 0
        self._beliefs = done.beliefs
        self._over = (done.over | out_of_turns) & ~before
        if before.any():
            self._renew(np.flatnonzero(before))
        observed, info = self._observed()
        return observed, reward, self._over.copy(), np.zeros(self.num_envs, bool), info

    def _renew(self, rows: IntArray) -> None:
        """Begin these dialogues anew."""
        fresh = self._drawn(len(rows))
        columns = []
        for name in ("user", "target", "opening", "number"):
            column = getattr(self._episodes, name).copy()
            column[rows] = getattr(fresh, name)
            columns.append(column)
        self._episodes = Episodes(*columns)
        order = np.arange(self.num_envs)
        order[rows] = self.num_envs + np.arange(len(rows))
        self._beliefs = joined(self._beliefs, environment.begin(self.table, fresh)).take(order)

    def _drawn(self, count: int) -> Episodes:
        rng: Generator = self.np_random
        return environment.drawn(self.table, self.wanted, count, rng)

    def _situation(self) -> Situation:
        left = self.rules.turns - int(self._beliefs.turn.min())
        return Situation(self._beliefs, self._episodes.user, self._episodes.number, left)

    def _observed(self) -> tuple[FloatArray, Info]:
        mass, whole = masses(self.table, self._beliefs, None)
        share = mass.data / whole[row_of(mass)]
        bits = entropy(share)
        entries = leading_entries(mass, bits, self.offered)
        self._questions = np.append(mass.indices, NONE).astype(np.int64)[entries]
        sizes = np.maximum(self._beliefs.sizes(), 1)
        observed = np.concatenate(
            [
                (self._beliefs.turn / self.rules.turns)[:, None],
                np.log2(sizes)[:, None],
                np.minimum(self.rules.shown / sizes, 1)[:, None],
                np.append(share, 0)[entries],
                np.append(bits, 0)[entries],
            ],
            axis=1,
        ).astype(np.float32)
        mask = np.concatenate([np.ones((self.num_envs, 1), bool), self._questions != NONE], axis=1)
        return observed, {"action_mask": mask}


class DialogueEnv(gymnasium.Env[FloatArray, int]):
    """One dialogue: `DialogueVectorEnv` of one, by Gymnasium's interface for single ones."""

    metadata: dict[str, Any] = {"render_modes": ["ansi"]}  # noqa: RUF012  # theirs

    def __init__(
        self,
        table: AttributeTable,
        scores: ItemScores,
        wanted: Interactions,
        rules: Rules = UNICORN_RULES,
        *,
        offered: int = 10,
        render_mode: str | None = None,
    ) -> None:
        """Take what `DialogueVectorEnv` takes; the only way to render is as text, "ansi"."""
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode is {render_mode!r}; it must be None or ansi")
        self.render_mode = render_mode
        self.batch = DialogueVectorEnv(table, scores, wanted, rules, offered=offered)
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space
        self._told = ""

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[FloatArray, Info]:
        super().reset(seed=seed)
        # unseeded resets go on with this environment's chance, as Gymnasium asks
        observed, info = self.batch.reset(seed=int(self.np_random.integers(2**31)))
        opening = int(self.batch._episodes.opening[0])
        self._told = f"user: {self.batch.table.attribute_names[opening]}"
        return observed[0], {"action_mask": info["action_mask"][0]}

    def step(self, action: int) -> tuple[FloatArray, float, bool, bool, Info]:
        question = self.batch._questions[0, action - 1] if action else NONE
        observed, reward, over, _, info = self.batch.step(np.array([action]))
        name = "a list" if question == NONE else f"{self.batch.table.attribute_names[question]}?"
        self._told += f"\nsystem: {name} ({reward[0]:+.2f})"
        return (
            observed[0],
            float(reward[0]),
            bool(over[0]),
            False,
            {"action_mask": info["action_mask"][0]},
        )

    def render(self) -> str | None:
        return self._told if self.render_mode == "ansi" else None


def joined(first: Beliefs, second: Beliefs) -> Beliefs:
    """Return the dialogues of both, one batch after the other."""
    from scipy import sparse

    return Beliefs(
        sparse.vstack([first.candidates, second.candidates], format="csr"),
        sparse.vstack([first.refused, second.refused], format="csr"),
        sparse.vstack([first.said, second.said], format="csr"),
        np.concatenate([first.turn, second.turn]),
    )

"""What UNICORN learns from: past turns, the surprising ones more often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.dialogue.unicorn.settings import Unicorn
from persona_agent.recommend.dialogue.unicorn.states import NAMES, States, blank
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

# Source: Schaul et al. (2016), Prioritized Experience Replay, proportional; as UNICORN sets it.
POWER, FLOOR, FIRST = 0.6, 0.01, 0.1
CORRECTION, GROWTH = 0.4, 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """Turns that were taken: state, action by position in `States.actions`, reward, next state.

    `over` are those after which there was no next one; their `after` means nothing.
    """

    before: States
    action: IntArray
    reward: FloatArray
    after: States
    over: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.action)


@dataclass(eq=False)
class Replay:
    """The last `capacity` turns with priorities; the oldest is overwritten.

    State that grows, as a learner's does: `to_arrays` and `from_arrays` save it.
    """

    settings: Unicorn
    before: States = field(init=False)
    after: States = field(init=False)
    action: IntArray = field(init=False)
    reward: FloatArray = field(init=False)
    over: npt.NDArray[np.bool_] = field(init=False)
    priority: npt.NDArray[np.float64] = field(init=False)
    added: int = 0
    correction: float = CORRECTION
    highest: float = FIRST

    def __post_init__(self) -> None:
        size = self.settings.capacity
        self.before, self.after = blank(self.settings, size), blank(self.settings, size)
        self.action = np.zeros(size, np.int64)
        self.reward = np.zeros(size, np.float32)
        self.over = np.zeros(size, bool)
        self.priority = np.zeros(size, np.float64)

    def __len__(self) -> int:
        return min(self.added, self.settings.capacity)

    def add(self, turns: Turns) -> None:
        """Keep these turns, each with the priority of the largest error so far."""
        rows = (self.added + np.arange(len(turns))) % self.settings.capacity
        for name in NAMES:
            getattr(self.before, name)[rows] = getattr(turns.before, name)
            getattr(self.after, name)[rows] = getattr(turns.after, name)
        self.action[rows], self.reward[rows] = turns.action, turns.reward
        self.over[rows] = turns.over
        self.priority[rows] = (self.highest + FLOOR) ** POWER
        self.added += len(turns)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[IntArray, Turns, FloatArray]:
        """Return places, turns and weights of `count` turns drawn by priority, stratified.

        A weight corrects for having been drawn more often than others; the largest is 1.
        """
        known = len(self)
        total = np.cumsum(self.priority[:known])
        wanted = (np.arange(count) + rng.random(count)) * total[-1] / count
        rows = np.minimum(np.searchsorted(total, wanted, side="right"), known - 1)
        self.correction = min(1.0, self.correction + GROWTH)
        weights = (known * self.priority[rows] / total[-1]) ** -self.correction
        turns = Turns(
            self.before.take(rows),
            self.action[rows],
            self.reward[rows],
            self.after.take(rows),
            self.over[rows],
        )
        return rows, turns, (weights / weights.max()).astype(np.float32)

    def surprise(self, rows: IntArray, errors: FloatArray) -> None:
        """Set the priorities of turns by the size of their errors."""
        size = abs(errors).astype(np.float64)
        self.highest = max(self.highest, float(size.max()))
        self.priority[rows] = (size + FLOOR) ** POWER

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:  # Any: numbers of several kinds
        """Return what was kept, by name."""
        known = len(self)
        states = {
            f"{side}.{name}": getattr(getattr(self, side), name)[:known]
            for side in ("before", "after")
            for name in NAMES
        }
        plain = {name: getattr(self, name)[:known] for name in PLAIN}
        counters = np.array([self.added, self.correction, self.highest], np.float64)
        return states | plain | {"counters": counters}

    @classmethod
    def from_arrays(cls, settings: Unicorn, arrays: dict[str, npt.NDArray[Any]]) -> Replay:
        """Return the replay that `to_arrays` told of."""
        found = cls(settings)
        known = len(arrays["action"])
        for side in ("before", "after"):
            for name in NAMES:
                getattr(getattr(found, side), name)[:known] = arrays[f"{side}.{name}"]
        for name in PLAIN:
            getattr(found, name)[:known] = arrays[name]
        added, found.correction, found.highest = arrays["counters"].tolist()
        found.added = int(added)
        return found


PLAIN = ("action", "reward", "over", "priority")

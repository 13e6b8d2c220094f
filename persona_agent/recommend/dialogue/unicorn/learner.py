"""How UNICORN learns: a dueling double deep Q-network with a slow copy of its head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from persona_agent.recommend.dialogue.unicorn.network import HEAD, Network
from persona_agent.recommend.dialogue.unicorn.replay import Replay
from persona_agent.recommend.dialogue.unicorn.states import States
from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.training import Parameters, Tensor
from persona_agent.types import FloatArray


@dataclass(eq=False)
class Learner:
    """Parameters that change by `learn`, the slow copy of the head, and Adam."""

    network: Network
    parameters: Parameters
    slow: Parameters = field(init=False)
    adam: Any = field(init=False)  # Any: torch's, whose types are not read

    def __post_init__(self) -> None:
        import torch

        self.slow = {
            name: one.detach().clone()
            for name, one in self.parameters.items()
            if name.startswith(HEAD)
        }
        settings = self.network.settings
        self.adam = torch.optim.Adam(
            self.learned(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def learned(self) -> list[Tensor]:
        """Return the parameters that learning changes."""
        return [one for one in self.parameters.values() if one.requires_grad]

    def worths(self, states: States) -> FloatArray:
        """Return (states, actions): what each action is worth, -inf where there is none."""
        import torch

        with torch.inference_mode():
            encoded = self.network.encode(self.parameters, states)
            actions = torch.from_numpy(states.actions.astype(np.int64))
            found = self.network.worth(self.parameters, encoded, actions, centred=True)
            worths: FloatArray = found.numpy()
        return worths

    def learn(self, replay: Replay, rng: np.random.Generator) -> float:
        """Take one step on turns drawn from the replay and return the mean squared error.

        The target of a turn is its reward plus the discounted worth, by the slow head, of the
        next action that the quick one likes best. Source: van Hasselt et al. (2016), Wang et al.
        (2016).
        """
        import torch

        settings = self.network.settings
        with torch.no_grad():
            for name, one in self.slow.items():
                one.lerp_(self.parameters[name], settings.blend)
        rows, turns, weights = replay.sample(settings.batch, rng)
        chosen = np.take_along_axis(turns.before.actions, turns.action[:, None], axis=1)
        encoded = self.network.encode(self.parameters, turns.before)
        actions = torch.from_numpy(chosen.astype(np.int64))
        value = self.network.worth(self.parameters, encoded, actions, centred=False)[:, 0]
        target = torch.from_numpy(turns.reward.copy())
        going = np.flatnonzero(~turns.over & (turns.after.actions >= 0).any(axis=1))
        if len(going):
            target[torch.from_numpy(going)] += settings.discount * self._later(
                turns.after.take(going)
            )
        error = value - target
        replay.surprise(rows, error.detach().numpy())
        weight = torch.from_numpy(weights)
        if settings.variant == "paper":
            loss = (weight * error**2).mean()
        else:
            loss = weight.mean() * (error**2).mean()
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        for name, one in self.parameters.items():
            if name.startswith(HEAD):
                one.grad.clamp_(-1, 1)
        self.adam.step()
        return float((error.detach() ** 2).mean())

    def _later(self, states: States) -> Tensor:
        import torch

        with torch.no_grad():
            encoded = self.network.encode(self.parameters, states)
            actions = torch.from_numpy(states.actions.astype(np.int64))
            best = self.network.worth(self.parameters, encoded, actions, centred=True).argmax(dim=1)
            taken = actions.gather(1, best[:, None])
            slow = {**self.parameters, **self.slow}
            return self.network.worth(slow, encoded, taken, centred=False)[:, 0]


def choose(
    worths: FloatArray, rng: np.random.Generator | None = None, explore: float = 0.0
) -> tuple[IntArray, FloatArray]:
    """Return the action of each row, by position, and the worths by which it was chosen.

    With the chance `explore`, those of a row are replaced by random ones. A row without actions
    gets position 0.
    """
    if rng is not None and explore:
        guess = rng.random(len(worths)) < explore
        random = np.where(np.isfinite(worths), rng.random(worths.shape), -np.inf)
        worths = np.where(guess[:, None], random, worths).astype(np.float32)
    return worths.argmax(axis=1), worths

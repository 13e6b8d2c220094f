"""An optimiser for losses that take turns, each with a state of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from persona_agent.recommend.training import Tensor


class Turns:
    """One optimiser for each set of parameters that get gradients together.

    So two losses that share some parameters do not mix their moments, as they would in one Adam.
    `make` returns torch's optimiser for a list of parameters.
    """

    def __init__(self, learned: Sequence[Tensor], make: Callable[[list[Tensor]], Any]) -> None:
        self._learned = learned
        self._make = make  # Any above and below: torch's types are not read
        self._states: dict[tuple[int, ...], Any] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        if not set_to_none:
            raise ValueError("set_to_none is False; which parameters have gradients is what counts")
        for one in self._learned:
            one.grad = None

    def step(self) -> None:
        """Take a step with the optimiser of those parameters that have gradients now."""
        turn = tuple(at for at, one in enumerate(self._learned) if one.grad is not None)
        if turn not in self._states:
            self._states[turn] = self._make([self._learned[at] for at in turn])
        self._states[turn].step()

"""Gradient steps until validation stops improving, or the most epochs allowed are over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from persona_agent.errors import Diverged
from persona_agent.types import Record

Tensor: TypeAlias = Any  # torch is optional, and its types are not read
Parameters: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Epoch(Record):
    """One epoch done: the mean loss of its steps, and validation's score where one was taken."""

    number: int
    loss: float
    score: float | None
    best: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Schedule(Record):
    """When to look at validation and when to stop.

    Validation is looked at every `every` epochs; training stops when its score has not improved
    in `patience` looks, or after `epochs`.
    """

    epochs: int
    every: int
    patience: int

    def __post_init__(self) -> None:
        for name in ("epochs", "every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Trained(Record):
    """How training went: the epoch that was kept, and whether the cap of epochs ended it.

    A model that was still improving when the cap came has `capped`: compare it with nothing.
    """

    epochs: int
    best_epoch: int
    score: float
    capped: bool
    seconds: float
    curve: tuple[tuple[int, float], ...]


def train(
    parameters: Parameters,
    losses: Callable[[int], Iterator[Tensor]],
    score: Callable[[Parameters], float],
    optimiser: Any,  # of torch, whose types are not read
    schedule: Schedule,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[Parameters, Trained]:
    """Return the parameters of the epoch that validation liked best, and how it went.

    `losses` yields the losses of one epoch, numbered from 1, a step each: it goes on after the
    step was taken. Raises Diverged when a loss is NaN or infinite.
    """
    begun = time.perf_counter()
    best, best_score, best_epoch, number = snapshot(parameters), -math.inf, 0, 0
    curve: list[tuple[int, float]] = []
    for number in range(1, schedule.epochs + 1):
        loss = _steps(losses(number), optimiser, number)
        found = None
        if number % schedule.every == 0 or number == schedule.epochs:
            found = score(parameters)
            curve.append((number, found))
            if found > best_score:
                best, best_score, best_epoch = snapshot(parameters), found, number
        if on_epoch is not None:
            seconds = time.perf_counter() - begun
            on_epoch(Epoch(number, loss, found, best_score if curve else None, seconds))
        if number - best_epoch >= schedule.patience * schedule.every:
            break
    waited = number - best_epoch >= schedule.patience * schedule.every
    seconds = time.perf_counter() - begun
    return best, Trained(number, best_epoch, best_score, not waited, seconds, tuple(curve))


def snapshot(parameters: Parameters) -> Parameters:
    """Return copies that further steps do not change."""
    return {name: one.detach().clone() for name, one in parameters.items()}


def _steps(losses: Iterator[Tensor], optimiser: Any, epoch: int) -> float:  # Any: torch's
    total, steps = 0.0, 0
    for loss in losses:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(
                f"the loss is {value} in step {steps + 1} of epoch {epoch}: training has "
                "diverged; a lower learning_rate may help"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total, steps = total + value, steps + 1
    return total / max(steps, 1)

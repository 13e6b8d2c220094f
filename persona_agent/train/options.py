"""How an adapter is trained: the method, the recipe, and what of it names the result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from persona_agent.types import Record

Method: TypeAlias = Literal["ntp", "cig", "tft", "traces", "dpo", "simpo"]

METHODS: tuple[Method, ...] = get_args(Method)
PREFERENCES: tuple[Method, ...] = ("dpo", "simpo")
RATES: dict[Method, float] = {"dpo": 5e-6, "simpo": 1e-6}
RATE = 1e-4
BETAS: dict[Method, float] = {"dpo": 0.1, "simpo": 2.0}


@dataclass(frozen=True, slots=True)
class TrainOptions(Record):
    """What is learned, and by which recipe; what is None is the method's own default.

    `ntp` learns the user's texts, `cig` what they write given what they wrote before, `tft` what
    they do in a situation, `traces` the thoughts that led to what they did beside that, `dpo` and
    `simpo` to prefer what they chose.

    `rank`, `alpha`, `targets` and `dropout` are the LoRA's; `rate` rises over the first `warmup`
    of the updates and falls to 0 linearly; an update sees about `batch` learned outcomes. Texts
    hold up to `window` interactions, and at most `max_tokens` tokens. The latest `held_out`
    interactions are not learned: they tell what the adapter is worth. `beta` and `gamma` are of
    the preference losses.

    Recipe: OPPU (Tan et al. 2024), and Meng et al. 2024 for `gamma`, the margin that SimPO asks.
    """

    method: Method = "tft"
    rank: int = 8
    alpha: int = 8
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    dropout: float = 0.05
    rate: float | None = None
    epochs: int = 2
    batch: int = 16
    warmup: float = 0.1
    decay: float = 0.01
    window: int = 16
    max_tokens: int = 1024
    held_out: int = 0
    beta: float | None = None
    gamma: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; it must be one of {', '.join(METHODS)}")
        for name, least in (
            ("rank", 1),
            ("alpha", 1),
            ("epochs", 1),
            ("batch", 1),
            ("window", 1),
            ("max_tokens", 8),
            ("held_out", 0),
        ):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if not self.targets:
            raise ValueError("targets is empty; name the layers that are adapted, such as q_proj")
        for name, value, high in (
            ("dropout", self.dropout, 1.0),
            ("warmup", self.warmup, 1.0),
            ("decay", self.decay, math.inf),
        ):
            if not 0 <= value < high:
                raise ValueError(f"{name} is {value}; it must be 0 or more, and below {high:g}")
        for name, given in (("rate", self.rate), ("beta", self.beta)):
            if given is not None and not 0 < given < math.inf:
                raise ValueError(f"{name} is {given}; it must be above 0")

    @property
    def used_rate(self) -> float:
        """The highest learning rate."""
        return RATES.get(self.method, RATE) if self.rate is None else self.rate

    @property
    def used_beta(self) -> float:
        """The sharpness of a preference loss; 0 for the other methods."""
        return BETAS.get(self.method, 0.0) if self.beta is None else self.beta

    @property
    def is_preference(self) -> bool:
        """Whether pairs of outcomes are compared."""
        return self.method in PREFERENCES


def rate_at(step: int, steps: int, options: TrainOptions) -> float:
    """Return the learning rate of update `step` of `steps`, counted from 0.

    >>> [round(rate_at(i, 4, TrainOptions(warmup=0.5, rate=1.0)), 2) for i in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(options.warmup * steps)
    if step < rising:
        return options.used_rate * (step + 1) / rising
    return options.used_rate * (steps - step) / max(1, steps - rising)

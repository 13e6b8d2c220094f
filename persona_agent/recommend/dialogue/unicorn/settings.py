"""How UNICORN is set up, and what its paper and its released code do differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from persona_agent.types import Record

Variant: TypeAlias = Literal["paper", "released"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True, slots=True)
class Unicorn(Record):
    """Settings of the network and of learning; the defaults are the released ones but for three.

    `variant` decides what paper and released code do differently:

    | | "paper" | "released" |
    |---|---|---|
    | node vectors | the given ones (TransE), fixed | drawn at random, learned: the given are lost |
    | graph | two layers, normalised, with ReLU and a node's own part | one sum, nothing besides |
    | attention | among a dialogue's accepted attributes | among the dialogues of the batch |
    | attributes offered | by weighted entropy | by likeness to user and accepted ones |
    | replay's correction | weighs each error | scales the mean error |

    Ours: a state's graph holds the `most` candidates of highest score; a step of learning follows
    every `every` turns, where theirs follows each, at `every` times their learning rate (1e-4) and
    blend (.01); chance picks among the offered actions.
    Source: Deng et al. (2021), Unified Conversational Recommendation Policy Learning via
    Graph-based Reinforcement Learning; its text was not at hand, see docs/dialogue.md.
    """

    variant: Variant = "paper"
    hidden: int = 100
    heads: int = 4
    inner: int = 400
    most: int = 32
    items: int = 10
    attributes: int = 10
    turns: int = 15
    capacity: int = 50_000
    batch: int = 128
    every: int = 4
    discount: float = 0.999
    learning_rate: float = 4e-4
    weight_decay: float = 1e-6
    blend: float = 0.04
    explore: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(
                f"variant is {self.variant!r}; it must be one of {', '.join(VARIANTS)}"
            )
        if self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden}; a multiple of heads, {self.heads}, is due")
        for name in ("most", "items", "attributes", "turns", "capacity", "batch", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.most < self.items:
            raise ValueError(f"most is {self.most}; at least items, {self.items}, is due")
        if not 0 <= self.explore <= 1:
            raise ValueError(f"explore is {self.explore}; 0 to 1 is due")

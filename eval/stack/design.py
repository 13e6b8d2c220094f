"""The design of the study whether relations and personas stack: its cells, controls and bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from persona_agent.errors import InputError
from persona_agent.eval.datasets import NAMES
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.knn import ItemKNN
from persona_agent.recommend.likelihoods import Likelihood
from persona_agent.recommend.mult_vae import MultVAE
from persona_agent.recommend.nested import Nested
from persona_agent.recommend.popular import Popularity
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.rp3beta import RP3beta
from persona_agent.types import Record

Settings: TypeAlias = dict[str, int | float | str]
# How items relate in a cell: a relation of the nested model, or its graph with shuffled facts.
Relating: TypeAlias = Literal["none", "interactions", "graph", "shuffled"]
Cells: TypeAlias = Literal["primary", "all"]
Protocol: TypeAlias = Literal["weak", "strong"]

DIMENSIONS, PERSONAS = 64, 4
LIKELIHOODS: tuple[Likelihood, ...] = ("multinomial", "gaussian", "logistic")
CONTROLLED: tuple[Likelihood, ...] = ("multinomial",)  # of the controls, unless all cells run
CORE = 5  # users and items with fewer liked choices are left out
METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Range(Record):
    """A setting that is searched between two bounds, evenly in its logarithm if `log`."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> float:
        """Return the value at this share of the way from low to high, to three digits."""
        if self.log:
            return float(f"{self.low * (self.high / self.low) ** share:.3g}")
        return float(f"{self.low + (self.high - self.low) * share:.3g}")


@dataclass(frozen=True, slots=True)
class Choice(Record):
    """A setting that is searched among a few values."""

    values: tuple[int | float | str, ...]

    def at(self, share: float) -> int | float | str:
        """Return the value at this share of the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Space: TypeAlias = Mapping[str, Range | Choice]


@dataclass(frozen=True, slots=True)
class Cell(Record):
    """One combination of the factors; `dimensions` is larger in the capacity-matched control."""

    relation: Relating
    personas: int
    likelihood: Likelihood
    dimensions: int = DIMENSIONS

    @property
    def name(self) -> str:
        wide = "" if self.dimensions == DIMENSIONS else f"-d{self.dimensions}"
        return f"{self.relation}-k{self.personas}-{self.likelihood}{wide}"

    def settings(self) -> Settings:
        """Return what the nested model is told."""
        return {
            "relation": "graph" if self.relation == "shuffled" else self.relation,
            "personas": self.personas,
            "likelihood": self.likelihood,
            "dimensions": self.dimensions,
        }

    def space(self) -> Space:
        """Return the settings that are searched; those that would do nothing here are left out."""
        found = dict(NESTED)
        if self.personas == 1:
            del found["temperature"]
        if self.likelihood != "gaussian":
            del found["weight"]
        if self.relation in ("none", "interactions"):
            del found["layers"]
        return found


# Where the best of wider trials lay under each likelihood (MovieLens-100K, validation of split 0).
NESTED: Space = {
    "learning_rate": Range(1.5e-3, 1.5e-2, log=True),
    "dropout": Range(0.5, 0.9),
    "weight_decay": Range(1e-5, 1e-2, log=True),
    "temperature": Range(0.05, 1.0, log=True),
    "weight": Range(1, 6, log=True),
    "layers": Choice((1, 2)),
}


@dataclass(frozen=True, slots=True)
class Bar(Record):
    """A model to be beaten: settings to choose from, listed or as a space of as many trials."""

    candidates: Sequence[Settings] | Space


# What each model is made by; a bar joins by a line here and one in BARS.
MODELS: Mapping[str, Callable[..., Recommender]] = {
    "nested": Nested,
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "rp3beta": RP3beta,
    "ease": EASE,
    "mult_vae": MultVAE,
}
BARS: Mapping[str, Bar] = {
    "popularity": Bar([{}]),
    "item_knn": Bar([{"neighbours": n, "shrinkage": s} for n in (50, 100, 200) for s in (5, 10)]),
    "rp3beta": Bar([{"alpha": a, "neighbours": n} for a in (0.5, 0.6, 0.8) for n in (200, 1000)]),
    "ease": Bar([{"l2": float(l2)} for l2 in (25, 50, 100, 150, 250, 400, 600, 1000)]),
    "mult_vae": Bar(
        {
            "learning_rate": Range(5e-4, 5e-3, log=True),
            "dropout": Range(0.3, 0.8),
            "beta": Range(0.05, 0.5, log=True),
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Arm(Record):
    """What is tuned and fitted as one: a cell or a bar, with its candidates in order."""

    name: str
    model: str
    fixed: Settings
    candidates: tuple[Settings, ...]
    cell: Cell | None = None


@dataclass(frozen=True, slots=True)
class Design(Record):
    """All that decides what the study finds, and nothing else.

    Each arm tries `trials` settings on the first split's validation part; the best is fitted to
    `splits` splits with `seeds` seeds each. `epochs` is the cap: a fit that it ends goes on with
    twice as many, `CAP_DOUBLINGS` times at most.
    """

    datasets: tuple[str, ...]
    cells: Cells = "primary"
    protocol: Protocol = "weak"
    trials: int = 8
    splits: int = 5
    seeds: int = 1
    epochs: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.datasets) - set(NAMES))
        if unknown or not self.datasets:
            raise InputError(f"data sets are {list(self.datasets)}; there are {', '.join(NAMES)}")
        for name in ("trials", "splits", "seeds", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def arms(self) -> list[Arm]:
        """Return the bars, then the cells, in a fixed order."""
        bars = [
            Arm(name, name, {}, tuple(self._candidates(bar.candidates)))
            for name, bar in BARS.items()
        ]
        cells = [
            Arm(one.name, "nested", one.settings(), tuple(self._candidates(one.space())), one)
            for one in cells_of(self.cells)
        ]
        return bars + cells

    def _candidates(self, given: Sequence[Settings] | Space) -> Sequence[Settings]:
        return points(given, self.trials, self.seed) if isinstance(given, Mapping) else given


def cells_of(which: Cells) -> list[Cell]:
    """Return the factorial of relation x personas x likelihood, and its controls.

    The controls, under one likelihood or under all: interactions alone, shuffled facts, and one
    persona that is as wide as all personas together.
    """
    primary = [
        Cell(relation, personas, one)
        for relation in ("none", "graph")
        for personas in (1, PERSONAS)
        for one in LIKELIHOODS
    ]
    likelihoods = LIKELIHOODS if which == "all" else CONTROLLED
    controls = [
        Cell(relation, personas, one)
        for relation in ("interactions", "shuffled")
        for personas in (1, PERSONAS)
        for one in likelihoods
    ]
    wide = [
        Cell(relation, 1, one, PERSONAS * DIMENSIONS)
        for relation in ("none", "graph")
        for one in likelihoods
    ]
    return primary + controls + wide


def points(space: Space, count: int, seed: int) -> list[Settings]:
    """Return `count` settings that cover the space, the same for every cell.

    A Latin hypercube: each setting takes one value in each of `count` equal parts of its range,
    in an order of its own. Number n has the same learning rate in each cell, and so on: cells
    differ by what they are, not by their luck. Source: McKay, Beckman and Conover (1979).
    """
    names = [*NESTED, *(one for one in space if one not in NESTED)]
    rng = np.random.default_rng(seed)
    shares = {name: (rng.permutation(count) + rng.random(count)) / count for name in names}
    return [
        {name: axis.at(float(shares[name][number])) for name, axis in space.items()}
        for number in range(count)
    ]

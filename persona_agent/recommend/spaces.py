"""Spaces of settings to search: what a setting may be, and what is worth trying for each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from persona_agent.recommend.amp_cf import AMPCF
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.kgat import KGAT
from persona_agent.recommend.knn import ItemKNN
from persona_agent.recommend.lightgcn import LightGCN
from persona_agent.recommend.mult_dae import MultDAE
from persona_agent.recommend.mult_vae import MultVAE
from persona_agent.recommend.nested import Nested
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.rec_vae import RecVAE
from persona_agent.recommend.rp3beta import RP3beta
from persona_agent.types import Record

Setting: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Real(Record):
    """A number from `low` to `high`; with `log`, every factor is as likely as any other."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class Whole(Record):
    """A whole number from `low` to `high`, both included; `log` as for Real."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True, slots=True)
class Choice(Record):
    """One of these values, which have no order."""

    values: tuple[Setting, ...]


Space: TypeAlias = Mapping[str, Real | Whole | Choice]


def written(given: Real | Whole | Choice) -> Any:  # Any: a distribution of optuna
    """Return this as Optuna writes it."""
    from optuna import distributions

    if isinstance(given, Choice):
        return distributions.CategoricalDistribution(given.values)
    if isinstance(given, Whole):
        return distributions.IntDistribution(given.low, given.high, log=given.log)
    return distributions.FloatDistribution(given.low, given.high, log=given.log)


_STEPS: Space = {
    "batch": Choice((64, 128, 256)),
    "learning_rate": Real(5e-4, 1e-2, log=True),
    "dropout": Real(0.3, 0.8),
    "weight_decay": Real(1e-5, 2e-3, log=True),
}
_LIKELIHOOD: Space = {
    "likelihood": Choice(("multinomial", "logistic", "gaussian")),
    "weight": Real(1, 20, log=True),
}

# For data of some thousand people and items; a likelihood that is compared with others is fixed in
# `make`, and its space goes without that name.
SPACES: Mapping[type[Recommender], Space] = {
    EASE: {"l2": Real(10, 3_000, log=True)},
    ItemKNN: {"neighbours": Whole(10, 1_000, log=True), "shrinkage": Real(1, 300, log=True)},
    RP3beta: {
        "alpha": Real(0.3, 1.2),
        "beta": Real(0, 1),
        "neighbours": Whole(10, 1_000, log=True),
    },
    MultDAE: {
        **_STEPS,
        **_LIKELIHOOD,
        "hidden": Choice((100, 200, 300, 400)),
    },
    MultVAE: {
        **_STEPS,
        **_LIKELIHOOD,
        "hidden": Choice((100, 200, 400)),
        "latent": Choice((32, 64, 128)),
        "beta": Real(0.003, 0.5, log=True),
        "anneal_steps": Choice((100, 1_000)),
    },
    RecVAE: {
        **_STEPS,
        "hidden": Choice((100, 200, 400)),
        "latent": Choice((32, 64, 128)),
        "gamma": Real(2e-3, 3e-2, log=True),
    },
    LightGCN: {
        "width": Choice((64, 128)),
        "layers": Choice((1, 2, 3)),
        "loss": Choice(("bpr", "softmax")),
        "learning_rate": Real(1e-3, 2e-2, log=True),
        "l2": Real(3e-3, 1e-1, log=True),
    },
    KGAT: {
        "loss": Choice(("bpr", "softmax")),
        "learning_rate": Real(1e-3, 2e-2, log=True),
        "l2": Real(3e-3, 1e-1, log=True),
    },
    AMPCF: {
        "personas": Choice((1, 2, 4)),
        "width": Choice((16, 32, 64)),
        "l2": Real(3, 20, log=True),
        "learning_rate": Real(3e-3, 3e-2, log=True),
    },
    Nested: {
        **_LIKELIHOOD,
        "personas": Choice((1, 2, 4)),
        "learning_rate": Real(1.5e-3, 1.5e-2, log=True),
        "dropout": Real(0.5, 0.9),
        "weight_decay": Real(1e-5, 1e-2, log=True),
        "temperature": Real(0.05, 1, log=True),
    },
}

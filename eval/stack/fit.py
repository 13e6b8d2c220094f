"""One fit of the study: the data of a split, a model with its settings, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from persona_agent.errors import Diverged, InputError
from persona_agent.eval.datasets import open_dataset
from persona_agent.eval.stack.design import CORE, METRIC, MODELS, Arm, Design, Protocol, Settings
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdArray
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.neural import Neural
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.splits import Split, per_user, strong
from persona_agent.types import Record

CAP_DOUBLINGS = 2
EVERY, PATIENCE = 2, 6  # epochs between looks at validation, and looks without a gain
KEPT = ("ndcg@10", "recall@20", "ndcg@100")  # for each user
TOLD = ("calibration@10", "genre_distance@10")  # their means, where items have genres


@dataclass(frozen=True, slots=True)
class Task(Record):
    """A fit to make: a trial is judged on validation, a final fit on test, too."""

    dataset: str
    arm: str
    settings: Settings
    split: int
    seed: int
    trial: int | None

    @property
    def name(self) -> str:
        if self.trial is not None:
            return f"trial-{self.trial:03}"
        return f"final-split{self.split}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Fit(Record):
    """How one fit went; `score` is on validation, `means` are on test, and empty for a trial.

    `failure` says why there is no score: training diverged. `best_epoch` is 0 for a model that is
    not trained in epochs. `capped`: the cap of epochs still ended it after it was doubled.
    """

    task: Task
    score: float | None
    means: Mapping[str, float]
    seconds: float
    best_epoch: int = 0
    capped: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PerUser:
    """What a final fit is worth to each user, by metric."""

    users: IdArray
    values: Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A split of a data set, its graph and titles, ready for models."""

    split: Split
    graph: Graph
    items: ItemTable


@lru_cache(maxsize=4)
def prepared(name: str, protocol: Protocol, seed: int, data: Path | None) -> Prepared:
    """Return a split of the liked choices' core, kept in memory for the next fit of this process.

    The graph has no dead ends, so that the shuffled graph has as many facts that join items.
    Raises InputError for a data set whose graph is not there.
    """
    source = open_dataset(name, data)
    if not len(source.graph):
        raise InputError(
            f"the graph of {name} needs the folder of all data; set PERSONA_AGENT_DATA to it"
        )
    liked = source.liked().core(CORE, CORE)
    split = per_user(liked, seed=seed) if protocol == "weak" else strong(liked, seed=seed)
    return Prepared(split, source.graph.trimmed(split.train.items), source.items)


def run(task: Task, arm: Arm, design: Design, data: Path | None) -> tuple[Fit, PerUser | None]:
    """Return how the fit went, and what it gives each user if it is a final one.

    A trial that diverges is a result without a score; a final fit that does raises Diverged.
    """
    found = prepared(task.dataset, design.protocol, task.split, data)
    begun = time.perf_counter()
    try:
        model, best_epoch, capped = _fitted(task, arm, design, found)
    except Diverged as error:
        if task.trial is None:
            raise
        return Fit(task, None, {}, time.perf_counter() - begun, failure=str(error)), None
    seconds = time.perf_counter() - begun
    score = evaluate(model, found.split.valid, ks=(10,)).mean(METRIC)
    if task.trial is not None:
        return Fit(task, score, {}, seconds, best_epoch, capped), None
    tested = evaluate(model, found.split.test, ks=(10, 20, 100), items=found.items)
    means = {name: tested.mean(name) for name in KEPT} | {
        "coverage@10": tested.overall["coverage@10"]
    }
    if any(found.items.genres):
        means |= {name: tested.mean(name) for name in TOLD}
    values = {name: tested.per_user[name] for name in KEPT}
    return Fit(task, score, means, seconds, best_epoch, capped), PerUser(tested.users, values)


def _fitted(task: Task, arm: Arm, design: Design, found: Prepared) -> tuple[Recommender, int, bool]:
    """Return the model, its best epoch, and whether the cap of epochs bound to the last."""
    graph = found.graph
    if arm.cell is not None and arm.cell.relation == "shuffled":
        graph = graph.shuffled(task.split)
    model = MODELS[arm.model](**arm.fixed, **task.settings)
    if not isinstance(model, Neural):
        return model.fit(found.split.train), 0, False
    model.metric, model.seed = METRIC, 1000 * task.seed + task.split
    model.every, model.patience = EVERY, PATIENCE
    for doubling in range(CAP_DOUBLINGS + 1):
        model.epochs = design.epochs * 2**doubling
        model.fit(found.split.train, graph, valid=found.split.valid)
        if not model.trained.capped:
            break
    return model, model.trained.best_epoch, model.trained.capped

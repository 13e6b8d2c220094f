"""What the models that train in loops share: early stopping, seeds, devices, disk, explanations."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from persona_agent.errors import NotFitted
from persona_agent.recommend import files
from persona_agent.recommend.data import Histories, HistoryLike, Interactions, as_histories, binary
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.explain import Explanation, Reason, strongest
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.recommend.port import Filter, Ranking
from persona_agent.recommend.ranking import rank, score_items
from persona_agent.recommend.splits import Holdout, per_user
from persona_agent.recommend.training import (
    Epoch,
    Parameters,
    Schedule,
    Tensor,
    Trained,
    snapshot,
    train,
)
from persona_agent.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What scoring needs: tensors on the model's device, and how many people chose each item."""

    items: IdMap
    arrays: Parameters
    counts: FloatArray


@dataclass(kw_only=True)
class Neural(ABC):
    """A recommender that is trained by gradient steps and stops early.

    A subclass is a dataclass of its settings with three pure functions: which parameters it starts
    with, the losses of an epoch, and scores from arrays. `fit` keeps the parameters of the epoch
    with the best `metric` on validation; `trained` says how it went. `device` is "auto" (CUDA
    where there is one), "cpu" or "cuda"; `batch` is in the units of the model's steps.
    """

    epochs: int = 300
    every: int = 5
    patience: int = 8
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    metric: str = "ndcg@10"
    seed: int = 0
    device: str = "auto"

    _fitted: Fitted | None = dataclasses.field(default=None, init=False, repr=False, compare=False)
    _trained: Trained | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name in ("batch", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    @abstractmethod
    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        """Return what training works on: leaves with requires_grad are learned, others given.

        torch's own generator is seeded when this is called, and during training.
        """

    @abstractmethod
    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        """Yield the losses of one epoch, numbered from 1: a scalar with a gradient a step."""

    def optimiser(self, learned: list[Tensor]) -> Any:  # Any: torch's, whose types are not read
        """Return what takes the steps: by default Adam, fused: 7 times as fast on a CPU."""
        import torch

        return torch.optim.Adam(
            learned, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

    def serving(self, parameters: Parameters) -> Parameters:
        """Return the arrays that scoring needs, which are what is saved: by default all."""
        return snapshot(parameters)

    @abstractmethod
    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        """Return float32 scores (rows, items) of histories, each of which has an item or more."""

    @property
    def items(self) -> IdMap:
        return self._known().items

    @property
    def trained(self) -> Trained:
        """How training went; raises NotFitted before `fit` and for a model that was loaded."""
        if self._trained is None:
            raise NotFitted(f"this {type(self).__name__} was not trained here; call fit first")
        return self._trained

    def fit(
        self,
        interactions: Interactions,
        graph: Graph | None = None,
        *,
        valid: Holdout | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Learn, stopping early by `valid`: without it, by a tenth of each user's own items."""
        import torch

        if valid is None:
            split = per_user(interactions, seed=self.seed, ratios=(9, 1, 0))
            interactions, valid = split.train, split.valid
        held_out = valid
        counts = np.bincount(interactions.item, minlength=len(interactions.items))

        def score(parameters: Parameters) -> float:
            arrays = self.serving(parameters)
            fitted = Fitted(interactions.items, arrays, counts.astype(np.float32))
            cut = int(self.metric.rpartition("@")[2])
            return evaluate(self._with(fitted), held_out, ks=(cut,)).mean(self.metric)

        schedule = Schedule(self.epochs, self.every, self.patience)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            parameters = self.start(interactions, graph)
            learned = [one for one in parameters.values() if one.requires_grad]
            best, self._trained = train(
                parameters,
                lambda epoch: self.losses(parameters, interactions, epoch),
                score,
                self.optimiser(learned),
                schedule,
                on_epoch,
            )
        arrays = self.serving(best)
        self._fitted = Fitted(interactions.items, arrays, counts.astype(np.float32))
        return self

    def recommend(
        self,
        histories: HistoryLike,
        k: int,
        *,
        allow: Filter | None = None,
        deny: Filter | None = None,
        seen: bool = False,
    ) -> Ranking:
        return rank(self._score, self.items, histories, k, allow=allow, deny=deny, seen=seen)

    def score(self, histories: HistoryLike, items: Sequence[str] | None = None) -> FloatArray:
        return score_items(self._score, self.items, histories, items)

    def explain(self, history: Sequence[str], item: str, *, top: int | None = 5) -> Explanation:
        """Return the own items by occlusion: how much the score falls without each of them."""
        fitted = self._known()
        (column,) = fitted.items.positions([item])
        own = as_histories([history], fitted.items).matrix.indices
        if not len(own):
            count = float(fitted.counts[column])
            return strongest(
                item, count, [Reason("popularity", (item,), count)], top, additive=True
            )
        scored = self._score(_without_each(own, fitted.items))[:, column]
        reasons = [
            Reason("item", (one,), float(scored[0] - without))
            for one, without in zip(fitted.items.ids[own], scored[1:], strict=True)
        ]
        return strongest(item, float(scored[0]), reasons, top, additive=False)

    def save(self, folder: str | Path) -> None:
        fitted = self._known()
        arrays = {name: one.cpu().numpy() for name, one in fitted.arrays.items()}
        saved = {**arrays, "counts": fitted.counts}
        files.save(folder, files.Saved(type(self).__name__, self.settings(), fitted.items, saved))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        import torch

        saved = files.load(folder, cls.__name__)
        model = cls(**saved.settings)  # type: ignore[arg-type]  # as they were saved
        arrays = {
            name: torch.from_numpy(one.copy()).to(model.place)
            for name, one in saved.arrays.items()
            if name != "counts"
        }
        model._fitted = Fitted(saved.items, arrays, saved.arrays["counts"])
        return model

    def settings(self) -> dict[str, int | float | str | bool]:
        """Return the settings by name, as `__init__` takes them."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.init}

    @property
    def place(self) -> str:
        """The device that tensors live on."""
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def _with(self, fitted: Fitted) -> Self:
        """Return this model as it scores with other arrays."""
        model = copy.copy(self)
        model._fitted = fitted
        return model

    def _known(self) -> Fitted:
        if self._fitted is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing; call fit first")
        return self._fitted

    def _score(self, histories: Histories) -> FloatArray:
        import torch

        fitted = self._known()
        known = np.flatnonzero(np.diff(histories.matrix.indptr))
        if len(known) == len(histories):
            with torch.inference_mode():
                every: FloatArray = self.scores(fitted.arrays, histories).cpu().numpy()
            return every
        scores = np.repeat(fitted.counts[None], len(histories), axis=0)
        if len(known):
            scores[known] = self._score(histories.take(known))
        return scores


def dense(histories: Histories, place: str) -> Tensor:
    """Return float32 (rows, items), 1 where an item is in the history."""
    import torch

    return torch.from_numpy(histories.matrix.toarray()).to(place)


def shuffled(rows: int, batch: int) -> Iterator[IntArray]:
    """Yield the numbers below `rows` in random order by torch's generator, a batch at a time."""
    import torch

    order = torch.randperm(rows).numpy()
    for begin in range(0, rows, batch):
        yield order[begin : begin + batch]


def _without_each(own: IntArray, items: IdMap) -> Histories:
    """Return the history of these items, and then the same without each of them in turn."""
    count = len(own)
    kept = np.concatenate([np.ones((1, count), bool), ~np.eye(count, dtype=bool)])
    row, place = np.nonzero(kept)
    return Histories(items, binary(row, own[place], (count + 1, len(items))))

"""What the models without training loops share: scores are history times item weights."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from scipy import sparse

from persona_agent.errors import NotFitted
from persona_agent.recommend import files
from persona_agent.recommend.data import Csr, Histories, HistoryLike, Interactions, as_histories
from persona_agent.recommend.explain import Explanation, Reason, strongest
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.port import Filter, Ranking
from persona_agent.recommend.ranking import rank, score_items
from persona_agent.recommend.splits import Holdout
from persona_agent.recommend.training import Epoch
from persona_agent.types import FloatArray

Weights: TypeAlias = Any  # FloatArray, or CSR: scipy publishes no types


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What `fit` found: weights (items, items) from a history's item to a recommended one.

    `counts` (items,) is how many people chose each item. A person of whom nothing is known gets
    the items by their counts.
    """

    items: IdMap
    weights: Weights
    counts: FloatArray


class Linear(ABC):
    """A recommender whose score of an item is the sum of weights from the history's items.

    A subclass is a dataclass of its settings that says how weights are learned. An empty history
    falls back to popularity: the score is the number of people who chose the item.
    """

    _fitted: Fitted | None = None

    @abstractmethod
    def learn(self, matrix: Csr) -> Weights:
        """Return weights (items, items), dense float32 or CSR, from CSR (users, items)."""

    @property
    def items(self) -> IdMap:
        return self._known().items

    def fit(
        self,
        interactions: Interactions,
        graph: Graph | None = None,
        *,
        valid: Holdout | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        matrix = interactions.matrix
        counts = np.bincount(interactions.item, minlength=len(interactions.items))
        self._fitted = Fitted(interactions.items, self.learn(matrix), counts.astype(np.float32))
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
        fitted = self._known()
        (column,) = fitted.items.positions([item])
        own = as_histories([history], fitted.items).matrix.indices
        if not self.uses_history or not len(own):
            count = float(fitted.counts[column])
            reasons = [Reason("popularity", (item,), count)]
            return strongest(item, count, reasons, top, additive=True)
        weights = fitted.weights[own][:, [column]]
        parts = weights.toarray() if sparse.issparse(weights) else weights
        reasons = [
            Reason("item", (one,), float(part))
            for one, part in zip(fitted.items.ids[own], parts[:, 0], strict=True)
        ]
        return strongest(item, float(parts.sum()), reasons, top, additive=True)

    def save(self, folder: str | Path) -> None:
        fitted = self._known()
        if sparse.issparse(fitted.weights):
            weights = {
                "weights": fitted.weights.data,
                "indices": fitted.weights.indices,
                "indptr": fitted.weights.indptr,
            }
        else:
            weights = {"weights": fitted.weights}
        settings = dataclasses.asdict(self)  # type: ignore[call-overload]  # subclasses are
        files.save(
            folder,
            files.Saved(
                type(self).__name__, settings, fitted.items, {**weights, "counts": fitted.counts}
            ),
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        saved = files.load(folder, cls.__name__)
        arrays, size = saved.arrays, len(saved.items)
        weights: Weights = arrays["weights"]
        if "indptr" in arrays:
            parts = (weights, arrays["indices"], arrays["indptr"])
            weights = sparse.csr_array(parts, shape=(size, size))
        model = cls(**saved.settings)
        model._fitted = Fitted(saved.items, weights, arrays["counts"])
        return model

    @property
    def uses_history(self) -> bool:
        """Whether histories matter; popularity says no."""
        return True

    def _known(self) -> Fitted:
        if self._fitted is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing; call fit first")
        return self._fitted

    def _score(self, histories: Histories) -> FloatArray:
        fitted = self._known()
        if not self.uses_history:
            return np.repeat(fitted.counts[None], len(histories), axis=0)
        found = histories.matrix @ fitted.weights
        scores: FloatArray = found.toarray() if sparse.issparse(found) else found
        scores[np.diff(histories.matrix.indptr) == 0] = fitted.counts
        return scores

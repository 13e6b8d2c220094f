"""The port of recommenders, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeAlias

import numpy as np

from persona_agent.recommend.data import Histories, HistoryLike, Interactions
from persona_agent.recommend.explain import Explanation
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdArray, IdMap, IntArray
from persona_agent.recommend.splits import Holdout
from persona_agent.recommend.training import Epoch
from persona_agent.types import FloatArray

# Item ids for all rows alike, or one history a row for each its own.
Filter: TypeAlias = Sequence[str] | Histories


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The best items of each row, best first.

    `positions` (rows, k) are positions in `items`, -1 where a row has no more items to offer;
    `scores` (rows, k) are the model's, -inf there. Equal scores: the lower position first.
    """

    items: IdMap
    positions: IntArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ids(self) -> IdArray:
        """Item ids of shape (rows, k), "" where a row has no more items to offer."""
        padded: IdArray = np.append(self.items.ids, "")
        return padded[self.positions]

    def lists(self) -> list[list[str]]:
        """Return the item ids of each row, without the padding."""
        return [[one for one in row if one] for row in self.ids.tolist()]


class Recommender(Protocol):
    """Ranks the items it was fitted on for people it may never have seen.

    Histories are batches and need no retraining: they are folded in. Laws, which the contract
    suite checks: a batch equals a map of singles; the order of rows changes nothing; the same
    data and seed give the same scores; a saved model scores as before.
    """

    @property
    def items(self) -> IdMap:
        """The items it can recommend; raises NotFitted before `fit`."""
        ...

    def fit(
        self,
        interactions: Interactions,
        graph: Graph | None = None,
        *,
        valid: Holdout | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Learn from `interactions`, and from `graph` if it is a model that can; returns itself.

        A model that trains in loops stops when it no longer gets better on `valid`, and calls
        `on_epoch` after each epoch; the others need neither.
        """
        ...

    def recommend(
        self,
        histories: HistoryLike,
        k: int,
        *,
        allow: Filter | None = None,
        deny: Filter | None = None,
        seen: bool = False,
    ) -> Ranking:
        """Return the best `k` items of each row (fewer columns if there are fewer items).

        Items of the history are left out unless `seen`. Only items of `allow` are ranked, if it is
        given, and none of `deny`; an empty `allow` matches nothing. Unknown ids raise InputError.
        """
        ...

    def score(self, histories: HistoryLike, items: Sequence[str] | None = None) -> FloatArray:
        """Return the scores of `items` (None: all, in the order of `self.items`), a row each.

        Seen items are scored as any other. Scores compare within a row only.
        """
        ...

    def explain(self, history: Sequence[str], item: str, *, top: int | None = 5) -> Explanation:
        """Return why `item` scores as it does for this history: the `top` strongest reasons."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the fitted model: settings and ids as JSON, arrays as safetensors."""
        ...

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the model that was saved in `folder`; raises InputError if it is not one."""
        ...

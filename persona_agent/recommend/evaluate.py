"""How good a model's rankings are for people it did not learn from: one number a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from persona_agent.errors import NotEnoughData
from persona_agent.recommend import metrics
from persona_agent.recommend.data import Csr, Histories, Interactions, binary
from persona_agent.recommend.ids import IdArray, IntArray
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.metrics import PerUser
from persona_agent.recommend.port import Ranking, Recommender
from persona_agent.recommend.splits import Holdout

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Metrics by name: `per_user` has one value a user, `overall` one for all.

    Names end in the cut, as `ndcg@10`; those of sampled candidates say so: `ndcg@10_sampled99`.
    """

    users: IdArray
    per_user: Mapping[str, PerUser]
    overall: Mapping[str, float]

    def mean(self, name: str) -> float:
        """Return the mean over users, leaving out those for whom the metric is undefined (NaN)."""
        values = self.per_user[name]
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    def summary(self) -> dict[str, float]:
        """Return all means and the metrics of all users together."""
        return {name: self.mean(name) for name in self.per_user} | dict(self.overall)

    def frame(self) -> pd.DataFrame:
        """Return the per-user values as a DataFrame indexed by user."""
        import pandas as pd

        return pd.DataFrame(dict(self.per_user), index=pd.Index(self.users, name="user"))


def evaluate(
    model: Recommender,
    holdout: Holdout,
    *,
    ks: Sequence[int] = (10, 20, 100),
    train: Interactions | None = None,
    items: ItemTable | None = None,
) -> Evaluation:
    """Return metrics of the full ranking: every item of the model competes.

    For each k: the six of `metrics.ACCURACY` and `coverage@k`; with `train` `novelty@k`; with
    `items` that have genres `calibration@k` and `genre_distance@k`. The lists hold no item of the
    history, nor of the holdout's `deny`.
    """
    _check(holdout, ks)
    ranking = model.recommend(holdout.histories, max(ks), deny=holdout.deny)
    wanted = holdout.wanted.on(model.items)
    per_user = accuracy(ranking, wanted, ks)
    overall = {
        f"coverage@{k}": metrics.coverage(ranking.positions[:, :k], len(model.items)) for k in ks
    }
    if train is not None:
        counts = item_counts(train, ranking)
        for k in ks:
            listed = ranking.positions[:, :k]
            per_user[f"novelty@{k}"] = metrics.novelty(listed, counts, len(train.users))
    if items is not None:
        _, genres = items.genre_shares(model.items)
        per_user |= taste(ranking, holdout.histories.on(model.items), genres, ks)
    return Evaluation(_names(holdout), per_user, overall)


def evaluate_sampled(
    model: Recommender,
    holdout: Holdout,
    *,
    negatives: int,
    seed: int,
    ks: Sequence[int] = (10,),
) -> Evaluation:
    """Return accuracy when only `negatives` random other items compete, named `..._sampled99`.

    Sampled metrics can order models differently than the full ranking does (Krichene and Rendle
    2020): use them to compare with published figures only. The sampled items are neither in the
    history nor denied nor wanted; wanted items are ranked all together.
    """
    _check(holdout, ks)
    if negatives < 1:
        raise ValueError(f"negatives is {negatives}; it must be at least 1")
    allow = _candidates(model, holdout, negatives, seed)
    ranking = model.recommend(holdout.histories, max(ks), allow=allow, deny=holdout.deny)
    found = accuracy(ranking, holdout.wanted.on(model.items), ks)
    renamed = {f"{name}_sampled{negatives}": values for name, values in found.items()}
    return Evaluation(_names(holdout), renamed, {})


def accuracy(ranking: Ranking, wanted: Histories, ks: Sequence[int]) -> dict[str, PerUser]:
    """Return all accuracy metrics at all `ks` of a ranking with at least max(ks) places.

    A catalogue that is smaller than k ends the lists early; k counts nevertheless.
    """
    found = metrics.hits(ranking.positions, wanted)
    missing = max(ks) - found.shape[1]
    if missing > 0:
        found = np.pad(found, ((0, 0), (0, missing)))
    counts = np.diff(wanted.matrix.indptr)
    return {
        f"{name}@{k}": metric(found[:, :k], counts)
        for k in ks
        for name, metric in metrics.ACCURACY.items()
    }


def taste(
    ranking: Ranking, histories: Histories, features: Csr, ks: Sequence[int]
) -> dict[str, PerUser]:
    """Return how the lists mirror the histories in features such as genres, lower is better."""
    past = metrics.history_shares(histories, features)
    found = {}
    for k in ks:
        listed = metrics.shares(ranking.positions[:, :k], features)
        found[f"calibration@{k}"] = metrics.calibration(past, listed)
        found[f"genre_distance@{k}"] = metrics.taste_distance(past, listed)
    return found


def cut_of(metric: str) -> int:
    """Return the k of an accuracy metric's name.

    >>> cut_of("ndcg@10")
    10

    Raises ValueError for a name that `accuracy` does not give.
    """
    name, _, cut = metric.rpartition("@")
    if name not in metrics.ACCURACY or not cut.isdecimal() or not int(cut):
        raise ValueError(
            f"metric is {metric!r}; it must be one of {', '.join(metrics.ACCURACY)}, then @ and "
            "the places that count, as ndcg@10"
        )
    return int(cut)


def item_counts(train: Interactions, ranking: Ranking) -> IntArray:
    """Return how many training users chose each item of the ranking's catalogue."""
    counts = np.append(np.bincount(train.item, minlength=len(train.items)), 0)
    return counts[train.items.find(ranking.items)]


def long_tail(holdout: Holdout, train: Interactions, *, head: float = 0.2) -> Holdout:
    """Return the holdout with only those wanted items that are not among the most chosen.

    The `head` of a share of all items, by training users, is left out; users who then want
    nothing are, too. Head items may still be recommended, and count as misses.
    """
    if not 0 <= head < 1:
        raise ValueError(f"head is {head}; it must be at least 0 and below 1")
    counts = np.bincount(train.item, minlength=len(train.items))
    popular = np.argsort(-counts, kind="stable")[: int(head * len(counts))]
    is_tail = np.ones(len(counts) + 1, bool)
    is_tail[popular] = False
    wanted = holdout.wanted.matrix
    tail = is_tail[train.items.find(holdout.wanted.items)][wanted.indices]
    owner = np.repeat(np.arange(len(holdout)), np.diff(wanted.indptr))
    kept = binary(owner[tail], wanted.indices[tail], wanted.shape)
    rows = np.flatnonzero(np.diff(kept.indptr))
    users = holdout.wanted.users
    return Holdout(
        holdout.histories.take(rows),
        Histories(holdout.wanted.items, kept[rows], None if users is None else users[rows]),
        None if holdout.deny is None else holdout.deny.take(rows),
    )


def strata(values: PerUser, parts: int = 3) -> IntArray:
    """Return the stratum of each user, 0 to `parts` - 1, of equal size by ascending `values`.

    With `metrics.entropy(metrics.history_shares(...))` these are strata of how varied people's
    tastes are. Equal values: the earlier user comes lower. NaN comes last.
    """
    if parts < 1:
        raise ValueError(f"parts is {parts}; it must be at least 1")
    place = np.empty(len(values), np.int64)
    place[np.argsort(values, kind="stable")] = np.arange(len(values))
    return place * parts // max(len(values), 1)


def _candidates(model: Recommender, holdout: Holdout, negatives: int, seed: int) -> Histories:
    """Return the wanted items of each user and random others."""
    wanted = holdout.wanted.on(model.items)
    taken = wanted.matrix + holdout.histories.on(model.items).matrix
    if holdout.deny is not None:
        taken = taken + holdout.deny.on(model.items).matrix
    rng = np.random.default_rng(seed)
    rows, columns = [], []
    for row in range(len(wanted)):
        free = np.ones(len(model.items), bool)
        free[taken.indices[taken.indptr[row] : taken.indptr[row + 1]]] = False
        pool = np.flatnonzero(free)
        if len(pool) < negatives:
            raise NotEnoughData(
                f"user {row} leaves {len(pool)} other items; {negatives} negatives are asked for"
            )
        chosen = rng.choice(pool, negatives, replace=False)
        own = wanted.matrix.indices[wanted.matrix.indptr[row] : wanted.matrix.indptr[row + 1]]
        columns.append(np.concatenate([chosen, own]))
        rows.append(np.full(len(columns[-1]), row))
    places = binary(np.concatenate(rows), np.concatenate(columns), wanted.matrix.shape)
    return Histories(model.items, places)


def _check(holdout: Holdout, ks: Sequence[int]) -> None:
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {list(ks)}; give at least one cut, none below 1")
    if not len(holdout):
        raise NotEnoughData("the holdout has no users with anything to find")


def _names(holdout: Holdout) -> IdArray:
    users = holdout.wanted.users
    return np.arange(len(holdout)).astype(str).astype(object) if users is None else users

"""What a finished study found: the means of its arms and its contrasts, a data set at a time.

The unit is the user: each user's values are averaged over splits and seeds first. All contrasts
are weights over cells, so that one function computes them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.eval.stack.contrasts import Weights, controls, registered, simple_effects
from persona_agent.eval.stack.design import (
    METRIC,
    Design,
    Settings,
)
from persona_agent.eval.stack.fit import Fit, prepared
from persona_agent.eval.stack.store import Store
from persona_agent.eval.stack.study import chosen, finals_of
from persona_agent.eval.stack.verdict import Effect, verdict
from persona_agent.eval.statistics import (
    Interval,
    Trend,
    by_user,
    contrast,
    trend,
    with_holm,
)
from persona_agent.recommend.data import Histories
from persona_agent.recommend.ids import IdArray
from persona_agent.recommend.metrics import entropy, history_shares
from persona_agent.types import Record

Values: TypeAlias = npt.NDArray[np.float64]
BEST = "best cell - EASE"
FACTORS = ("relation", "personas", "relation x personas")


@dataclass(frozen=True, slots=True)
class Row(Record):
    """One arm: NDCG@10 with its interval over users, and means over splits and seeds."""

    arm: str
    ndcg: Interval
    valid: float
    means: Mapping[str, float]
    seconds: float
    epochs: float
    capped: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """What the study found on one data set.

    `main` are the pre-registered contrasts, p by Holm; `simple` are effects at one level of the
    other factor; `other` are controls and the bar. `trends` are slopes of an effect against the
    entropy of the genres in a user's history, in bits; without genres there are none.
    """

    dataset: str
    users: int
    items: int
    interactions: int
    facts: int
    rows: tuple[Row, ...]
    main: Mapping[str, Effect]
    simple: Mapping[str, Effect]
    other: Mapping[str, Effect]
    trends: Mapping[str, Trend]
    terciles: Mapping[str, tuple[Interval, ...]]
    best: str
    verdict: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Every arm's per-user NDCG@10, over all splits and seeds one after the other."""

    users: IdArray
    split: npt.NDArray[np.int64]
    values: Mapping[str, Values]
    fits: Mapping[str, Sequence[Fit]]

    def of(self, weights: Weights) -> Values:
        """Return the weighted sum of cells, a row a user and split."""
        total = np.zeros(len(self.users))
        for cell, weight in weights.items():
            total += weight * self.values[cell.name]
        return total

    def effect(self, differences: Values) -> Effect:
        """Return the contrast of these rows, and its mean in each split."""
        split = tuple(float(differences[self.split == one].mean()) for one in set(self.split))
        return Effect(contrast(differences, self.users), split)


def table(store: Store, design: Design, dataset: str) -> Table:
    """Return what the final fits gave; raises NotEnoughData if some are not done."""
    users: list[IdArray] = []
    split: list[npt.NDArray[np.int64]] = []
    values: dict[str, Values] = {}
    fits: dict[str, list[Fit]] = {}
    for arm in design.arms():
        tasks = finals_of(dataset, arm, design, chosen(store, dataset, arm))
        fits[arm.name] = [store.get(one) for one in tasks]
        found = [store.per_user(one) for one in tasks]
        values[arm.name] = np.concatenate([one.values[METRIC] for one in found])
        if not users:
            users = [one.users for one in found]
            split = [np.full(len(o.users), t.split) for t, o in zip(tasks, found, strict=True)]
    return Table(np.concatenate(users), np.concatenate(split), values, fits)


def finding(store: Store, design: Design, dataset: str, data: Path | None) -> Finding:
    """Return what the study found on a data set; raises NotEnoughData if it is not finished."""
    found = table(store, design, dataset)
    rows = tuple(_row(name, found) for name in found.values)
    main = {name: found.effect(found.of(one)) for name, one in registered(design.cells).items()}
    corrected = with_holm({name: one.contrast for name, one in main.items()})
    main = {name: Effect(corrected[name], one.by_split) for name, one in main.items()}
    simple = {name: found.effect(found.of(one)) for name, one in simple_effects().items()}
    cells = {one.arm: one for one in rows if found.fits[one.arm][0].task.arm in _cell_names(design)}
    best = max(cells.values(), key=lambda one: one.valid).arm
    other = {name: found.effect(found.of(one)) for name, one in controls(design.cells).items()}
    other[BEST] = found.effect(found.values[best] - found.values["ease"])
    source = prepared(dataset, design.protocol, 0, data)
    train = source.split.train
    varied = _variety(design, dataset, data)
    trends, terciles = {}, {}
    for name in FACTORS if varied else ():
        effects = by_user(found.of(registered(design.cells)[name]), found.users)
        against = np.array([varied[one] for one in sorted(set(found.users))])
        trends[name] = trend(effects, against)
        terciles[name] = _terciles(effects, against)
    return Finding(
        dataset,
        len(set(found.users)),
        len(train.items),
        len(source.split.interactions),
        len(source.graph),
        rows,
        main,
        simple,
        other,
        trends,
        terciles,
        best,
        verdict(main, simple, other[BEST], best),
    )


def _row(arm: str, found: Table) -> Row:
    fits = found.fits[arm]
    return Row(
        arm,
        contrast(found.values[arm], found.users).interval,
        mean(one.score for one in fits if one.score is not None),
        {name: mean(one.means[name] for one in fits) for name in fits[0].means},
        median(one.seconds for one in fits),
        median(one.best_epoch for one in fits),
        sum(one.capped for one in fits),
        fits[0].task.settings,
    )


def _variety(design: Design, dataset: str, data: Path | None) -> dict[str, float]:
    """Return the entropy of genres in what is known of each user, in bits, a mean over splits.

    Empty where items have no genres.
    """
    found: dict[str, list[float]] = {}
    for split in range(design.splits):
        source = prepared(dataset, design.protocol, split, data)
        if not any(source.items.genres):
            return {}
        known = source.split.test.histories
        _, shares = source.items.genre_shares(known.items)
        for user, bits in zip(_named(known), entropy(history_shares(known, shares)), strict=True):
            found.setdefault(user, []).append(float(bits))
    return {user: mean(bits) for user, bits in found.items()}


def _named(known: Histories) -> IdArray:
    if known.users is None:
        raise ValueError("the histories of a split's test part have no names")
    return known.users


def _terciles(effects: Values, against: Values) -> tuple[Interval, ...]:
    """Return the effect among the least, middling and most varied third of the users."""
    order = np.argsort(against, kind="stable")
    return tuple(contrast(effects[part]).interval for part in np.array_split(order, 3))


def _cell_names(design: Design) -> set[str]:
    return {arm.name for arm in design.arms() if arm.cell is not None}

"""What a finished study says: the means of its arms, its contrasts, and the verdict in words.

The unit is the user: each user's values are averaged over splits and seeds first. All contrasts
are weights over cells, so that one function computes them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.eval.stack import chosen, finals_of
from persona_agent.eval.stack_design import (
    CONTROLLED,
    DIMENSIONS,
    LIKELIHOODS,
    METRIC,
    PERSONAS,
    Cell,
    Cells,
    Design,
    Relating,
    Settings,
)
from persona_agent.eval.stack_fit import Fit, prepared
from persona_agent.eval.stack_store import Store
from persona_agent.eval.statistics import (
    Contrast,
    Interval,
    Trend,
    by_user,
    contrast,
    trend,
    with_holm,
)
from persona_agent.recommend.data import Histories
from persona_agent.recommend.ids import IdArray
from persona_agent.recommend.likelihoods import Likelihood
from persona_agent.recommend.metrics import entropy, history_shares
from persona_agent.types import Record

Weights: TypeAlias = Mapping[Cell, float]
Values: TypeAlias = npt.NDArray[np.float64]
LEVEL = 0.05
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
class Effect(Record):
    """A contrast, and its mean in each split: a sign that turns with the split means little."""

    contrast: Contrast
    by_split: tuple[float, ...]


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


def registered(cells: Cells) -> dict[str, Weights]:
    """Return the seven contrasts that were fixed before the study ran."""
    likelihoods = LIKELIHOODS if cells == "all" else CONTROLLED
    both = (1, PERSONAS)
    under = partial(_mean, ("none", "graph"), both)
    stacking = _minus(
        _minus(_mean(("graph",), (PERSONAS,)), _mean(("graph",), (1,))),
        _minus(_mean(("none",), (PERSONAS,)), _mean(("none",), (1,))),
    )
    return {
        "relation": _minus(_mean(("graph",), both), _mean(("none",), both)),
        "true facts": _minus(
            _mean(("graph",), both, likelihoods), _mean(("shuffled",), both, likelihoods)
        ),
        "personas": _minus(_mean(("none", "graph"), (PERSONAS,)), _mean(("none", "graph"), (1,))),
        "multinomial - logistic": _minus(under(("multinomial",)), under(("logistic",))),
        "multinomial - gaussian": _minus(under(("multinomial",)), under(("gaussian",))),
        "relation x personas": stacking,
        "relation x multinomial": _minus(
            _minus(
                _mean(("graph",), both, ("multinomial",)), _mean(("none",), both, ("multinomial",))
            ),
            _minus(
                _mean(("graph",), both, LIKELIHOODS[1:]), _mean(("none",), both, LIKELIHOODS[1:])
            ),
        ),
    }


def simple_effects() -> dict[str, Weights]:
    """Return the effect of each factor at each level of the other, and of both together."""
    cell = {(r, k): _mean((r,), (k,)) for r in ("none", "graph") for k in (1, PERSONAS)}
    one, many = 1, PERSONAS
    return {
        f"relation at K={one}": _minus(cell["graph", one], cell["none", one]),
        f"relation at K={many}": _minus(cell["graph", many], cell["none", many]),
        "personas without relation": _minus(cell["none", many], cell["none", one]),
        "personas with relation": _minus(cell["graph", many], cell["graph", one]),
        "both": _minus(cell["graph", many], cell["none", one]),
    }


def controls(cells: Cells) -> dict[str, Weights]:
    """Return what tells a factor from what comes along with it."""
    likelihoods = LIKELIHOODS if cells == "all" else CONTROLLED
    mean_of = partial(_mean, likelihoods=likelihoods)
    wide = {
        Cell(r, 1, one, PERSONAS * DIMENSIONS): 1 / (2 * len(likelihoods))
        for r in ("none", "graph")
        for one in likelihoods
    }
    return {
        "interactions - none": _minus(
            mean_of(("interactions",), (1, PERSONAS)), mean_of(("none",), (1, PERSONAS))
        ),
        "graph - interactions": _minus(
            mean_of(("graph",), (1, PERSONAS)), mean_of(("interactions",), (1, PERSONAS))
        ),
        "personas - one as wide as all": _minus(mean_of(("none", "graph"), (PERSONAS,)), wide),
    }


def verdict(
    main: Mapping[str, Effect], simple: Mapping[str, Effect], best: Effect, name: str
) -> tuple[str, ...]:
    """Return what may be said, by rules that were fixed before the study ran.

    "Relations help" needs both relation and true facts above 0 after Holm; "they stack" needs both
    simple effects above 0 and an interaction that is not below it.
    """
    relation, facts, personas = (_sign(main[one]) for one in ("relation", "true facts", "personas"))
    said = []
    if relation > 0 and facts > 0:
        said.append("Relations help, and it is the true facts that do.")
    elif relation > 0:
        said.append("The graph helps, but shuffled facts are not shown to help less.")
    else:
        said.append(f"Relations {_not_shown(main['relation'])}.")
    if personas > 0:
        said.append("Personas help.")
    else:
        said.append(f"Personas {_not_shown(main['personas'])}.")
    said.append(_stacking(main["relation x personas"], simple))
    interval = best.contrast.interval
    if interval.low > 0:
        said.append(f"The best cell on validation, {name}, beats tuned EASE.")
    elif interval.high < 0:
        said.append(f"The best cell on validation, {name}, is worse than tuned EASE.")
    else:
        said.append(f"The best cell on validation, {name}, cannot be told from tuned EASE.")
    return tuple(said)


def _stacking(stacking: Effect, simple: Mapping[str, Effect]) -> str:
    alone = [simple["relation at K=1"], simple["personas without relation"]]
    both = simple["both"].contrast.interval
    if all(one.contrast.interval.low > 0 for one in alone):
        if _sign(stacking) >= 0:
            return "They stack: each helps alone, and together no less than their sum."
        if both.mean > max(one.contrast.interval.mean for one in alone):
            return "They are sub-additive: together less than their sum, more than either."
        return "They do not stack: together no more than the better of the two."
    return f"That they stack is not shown: not both help alone{_bound(stacking)}."


def _sign(effect: Effect) -> int:
    """Return whether an effect is above (1) or below 0 (-1) after Holm, or neither (0)."""
    if effect.contrast.p_holm >= LEVEL:
        return 0
    return 1 if effect.contrast.interval.mean > 0 else -1


def _not_shown(effect: Effect) -> str:
    return "make it worse" if _sign(effect) < 0 else f"are not shown to help{_bound(effect)}"


def _bound(effect: Effect) -> str:
    return f" (an effect of {effect.contrast.detectable:.3f} would have been seen)"


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


def _mean(
    relations: Sequence[Relating],
    personas: Sequence[int],
    likelihoods: Sequence[Likelihood] = LIKELIHOODS,
) -> Weights:
    """Return equal weights, which sum to 1, over these cells."""
    cells = [Cell(r, k, one) for r in relations for k in personas for one in likelihoods]
    return dict.fromkeys(cells, 1 / len(cells))


def _minus(one: Weights, other: Weights) -> Weights:
    return {cell: one.get(cell, 0) - other.get(cell, 0) for cell in {**one, **other}}

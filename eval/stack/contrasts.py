"""The contrasts of the study: weights over its cells, fixed before it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

from persona_agent.eval.stack.design import (
    CONTROLLED,
    DIMENSIONS,
    LIKELIHOODS,
    PERSONAS,
    Cell,
    Cells,
    Relating,
)
from persona_agent.recommend.likelihoods import Likelihood

Weights: TypeAlias = Mapping[Cell, float]


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

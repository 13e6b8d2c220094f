"""The design of the study: which cells there are, and how evenly their settings are searched."""

from __future__ import annotations

import math

import numpy as np
import pytest

from persona_agent.errors import InputError
from persona_agent.eval.stack.design import NESTED, Cell, Design, Range, cells_of, points

COUNT = 8


def test_each_setting_takes_a_value_in_every_part_of_its_range() -> None:
    found = points(NESTED, COUNT, seed=3)
    for name, axis in NESTED.items():
        if isinstance(axis, Range):
            low, high, values = axis.low, axis.high, np.array([one[name] for one in found], float)
            if axis.log:
                low, high, values = math.log(low), math.log(high), np.log(values)
            parts = np.floor((values - low) / (high - low) * COUNT + 1e-2)  # three digits are kept
            assert len(set(parts.clip(0, COUNT - 1))) >= COUNT - 1, name
            assert ((values >= low - 1e-2) & (values <= high + 1e-2)).all(), name


def test_settings_do_not_move_together() -> None:
    found = points(NESTED, 64, seed=0)
    rates, dropouts = (
        np.array([one[name] for one in found]) for name in ("learning_rate", "dropout")
    )
    assert abs(np.corrcoef(np.log(rates), dropouts)[0, 1]) < 0.3


def test_a_trial_is_the_same_in_every_cell_that_has_the_setting() -> None:
    cells = [one for one in Design(("ml-100k",), cells="all", trials=COUNT).arms() if one.cell]
    most = max(cells, key=lambda one: len(one.candidates[0]))
    for arm in cells:
        assert len(arm.candidates) == COUNT
        for mine, other in zip(arm.candidates, most.candidates, strict=True):
            assert {n: v for n, v in mine.items() if n in other} == {
                n: v for n, v in other.items() if n in mine
            }


def test_a_cell_searches_only_what_does_something_there() -> None:
    assert "temperature" not in Cell("none", 1, "multinomial").space()
    assert "weight" not in Cell("none", 4, "logistic").space()
    assert "layers" not in Cell("interactions", 4, "logistic").space()
    assert set(Cell("graph", 4, "gaussian").space()) == set(NESTED)


def test_the_factorial_has_twelve_cells_and_its_controls() -> None:
    assert len(cells_of("primary")) == 12 + 4 + 2
    assert len(cells_of("all")) == 12 + 12 + 6
    names = [one.name for one in cells_of("all")]
    assert len(set(names)) == len(names)
    assert set(cells_of("primary")) <= set(cells_of("all"))


def test_a_design_that_cannot_be_run_is_refused() -> None:
    with pytest.raises(InputError, match="data sets are"):
        Design(("nope",))
    with pytest.raises(ValueError, match="trials is 0"):
        Design(("ml-100k",), trials=0)

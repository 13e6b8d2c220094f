"""The preference losses, against their equations worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from persona_agent.train.losses import dpo, simpo


def test_dpo_is_what_its_equation_says() -> None:
    chosen, rejected = torch.tensor([-1.0, -4.0]), torch.tensor([-2.0, -3.0])
    before = torch.tensor([-1.5, -4.0]), torch.tensor([-1.5, -4.5])
    gains = [(-1.0 + 1.5) - (-2.0 + 1.5), 0.0 - (-3.0 + 4.5)]
    expected = sum(math.log1p(math.exp(-0.1 * gain)) for gain in gains) / 2
    assert float(dpo(chosen, rejected, *before, 0.1)) == pytest.approx(expected)
    assert float(dpo(*before, *before, 0.1)) == pytest.approx(math.log(2))


def test_simpo_asks_for_a_margin() -> None:
    chosen, rejected = torch.tensor([-0.5]), torch.tensor([-1.5])
    expected = math.log1p(math.exp(-(2.0 * 1.0 - 1.0)))
    assert float(simpo(chosen, rejected, 2.0, 1.0)) == pytest.approx(expected)
    assert float(simpo(chosen, chosen, 2.0, 1.0)) == pytest.approx(math.log1p(math.exp(1.0)))

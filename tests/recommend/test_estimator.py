"""The estimate of a learned vector from what is known of anybody."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.estimator import RIDGE, estimator

torch = pytest.importorskip("torch")


def test_it_is_ridge_regression_with_a_penalty_in_the_scale_of_each_feature() -> None:
    features, learned = torch.randn(50, 4), torch.randn(50, 3)
    rows = features.double().numpy()
    penalty = np.diag(RIDGE * (rows**2).sum(axis=0))
    due = np.linalg.solve(rows.T @ rows + penalty, rows.T @ learned.double().numpy())
    np.testing.assert_allclose(estimator(features, learned), due, atol=1e-5)
    scale = torch.tensor([1.0, 10.0, 0.1, 5.0])
    torch.testing.assert_close(
        (features * scale) @ estimator(features * scale, learned),
        features @ estimator(features, learned),
        atol=1e-5,
        rtol=1e-4,
    )


def test_it_finds_a_linear_rule() -> None:
    features, rule = torch.randn(500, 4), torch.randn(4, 3)
    torch.testing.assert_close(estimator(features, features @ rule), rule, atol=0.05, rtol=0.1)


def test_features_that_say_nothing_are_no_obstacle() -> None:
    learned = torch.randn(20, 3)
    assert not estimator(torch.zeros(20, 4), learned).any()
    one = torch.randn(20, 1)
    twice = estimator(torch.cat([one, one, torch.zeros(20, 1)], dim=1), learned)
    assert torch.isfinite(twice).all()

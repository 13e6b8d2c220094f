"""Products with sparse matrices: values and gradients of dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.network import adjacency, network, normalised
from persona_agent.recommend.propagation import as_tensor, mean_of_layers, spread

torch = pytest.importorskip("torch")


def test_spreading_has_the_values_and_gradients_of_a_dense_product() -> None:
    matrix = sparse.random_array((7, 5), density=0.4, rng=np.random.default_rng(0), format="csr")
    dense = torch.tensor(matrix.toarray(), dtype=torch.float32)
    first, second = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        for _ in range(2)
    )
    transposed = as_tensor(sparse.csr_array(matrix.T), "cpu")
    found = spread(as_tensor(matrix, "cpu"), first, transposed)
    due = dense @ second
    torch.testing.assert_close(found, due)
    found.pow(2).sum().backward()
    due.pow(2).sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_the_mean_of_layers_is_the_mean_of_powers(world: Interactions) -> None:
    matrix = normalised(adjacency(network(world.items, world, None)))
    table = torch.randn(matrix.shape[0], 4, requires_grad=True)
    found = mean_of_layers(as_tensor(matrix, "cpu"), table, 2)
    dense = torch.tensor(matrix.toarray())
    due = (table + dense @ table + dense @ dense @ table) / 3
    torch.testing.assert_close(found, due, atol=1e-6, rtol=1e-5)
    (mine,) = torch.autograd.grad(found.pow(2).sum(), table)
    (theirs,) = torch.autograd.grad(due.pow(2).sum(), table)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert torch.equal(mean_of_layers(as_tensor(matrix, "cpu"), table, 0), table)

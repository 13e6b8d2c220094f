"""Tables of embeddings spread over a sparse graph, with gradients, on CPU and CUDA alike."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from persona_agent.recommend.data import Csr
from persona_agent.recommend.training import Tensor


def as_tensor(matrix: Csr, place: str) -> Tensor:
    """Return scipy's CSR as torch's, float32, on the device `place`."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        made = torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=False,  # scipy made the indices
        )
    return made.to(place)


def spread(matrix: Tensor, table: Tensor, transposed: Tensor | None = None) -> Tensor:
    """Return matrix @ table: each row the weighted sum of its neighbours' rows.

    `matrix` (rows, nodes) is torch's CSR and constant; the gradient of `table` (nodes, width) is
    transposed @ the gradient. Leave `transposed` out where the matrix is symmetric.
    """
    return _product().apply(matrix, table, matrix if transposed is None else transposed)


def mean_of_layers(matrix: Tensor, table: Tensor, layers: int) -> Tensor:
    """Return the mean over l = 0..layers of matrix^l @ table; `matrix` is symmetric.

    Source: He et al. (2020), LightGCN, equations 3 to 6.
    """
    total = layer = table
    for _ in range(layers):
        layer = spread(matrix, layer)
        total = total + layer
    return total / (layers + 1)


@functools.cache
def _product() -> Any:  # Any: a class of torch, whose types are not read
    """Return the product whose backward pass has its transpose at hand.

    torch's own transposes the matrix in every backward pass: forward and back over 90,000 entries
    it takes 15 ms on one core, this 1.4; in COO 15 as well, by gathering and adding 50 forward.
    """
    import torch

    class Product(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not read
        @staticmethod
        def forward(context: Any, matrix: Tensor, table: Tensor, transposed: Tensor) -> Tensor:
            context.transposed = transposed
            return matrix @ table

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
            return None, context.transposed @ gradient.contiguous(), None

    return Product

"""Layers as tensors in a dict: dense ones, norms, and one that reads sparse histories."""

from __future__ import annotations

import numpy as np

from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.training import Parameters, Tensor


def layer(name: str, inputs: int, outputs: int, place: str) -> Parameters:
    """Return a fresh dense layer: weight (outputs, inputs) by Xavier, bias almost zero."""
    import torch
    from torch import nn

    weight = nn.init.xavier_uniform_(torch.empty(outputs, inputs))
    return _learned(name, weight, _small(outputs), place)


def reader(name: str, items: int, outputs: int, place: str) -> Parameters:
    """Return a fresh layer for `read`: as `layer`, but with weight (items, outputs)."""
    import torch
    from torch import nn

    weight = nn.init.xavier_uniform_(torch.empty(items, outputs))
    return _learned(name, weight, _small(outputs), place)


def writer(name: str, inputs: int, bias: Tensor, place: str) -> Parameters:
    """Return a fresh dense layer onto all items, whose bias begins at `bias` (items,)."""
    import torch
    from torch import nn

    return _learned(name, nn.init.xavier_uniform_(torch.empty(len(bias), inputs)), bias, place)


def shares(data: Interactions) -> Tensor:
    """Return float32 (items,): the share of people who chose each, smoothed to 0 < share < 1."""
    import torch

    counts = np.bincount(data.item, minlength=len(data.items))
    return torch.from_numpy(((counts + 0.5) / (len(data.users) + 1)).astype(np.float32))


def norm(name: str, width: int, place: str) -> Parameters:
    """Return a fresh layer norm: weight 1, bias 0."""
    import torch

    return _learned(name, torch.ones(width), torch.zeros(width), place)


def linear(arrays: Parameters, name: str, inputs: Tensor) -> Tensor:
    """Return inputs (rows, inputs) through the dense layer of this name."""
    import torch.nn.functional as F

    return F.linear(inputs, arrays[f"{name}.weight"], arrays[f"{name}.bias"])


def read(arrays: Parameters, name: str, histories: Histories, dropout: float = 0.0) -> Tensor:
    """Return the reader of this name on histories as rows x / |x|, with dropout of their items.

    It sums the weights of the items chosen, a few in a hundred of all: the same as a dense layer
    on dense rows, for a fraction of the time.
    """
    import torch
    import torch.nn.functional as F

    weight, matrix = arrays[f"{name}.weight"], histories.matrix
    counts = np.diff(matrix.indptr)
    each = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)
    inputs = F.dropout(torch.from_numpy(each).to(weight.device), dropout)
    items, starts = (
        torch.from_numpy(one.astype(np.int64)).to(weight.device)
        for one in (matrix.indices, matrix.indptr)
    )
    summed = F.embedding_bag(
        items, weight, starts, mode="sum", per_sample_weights=inputs, include_last_offset=True
    )
    return summed + arrays[f"{name}.bias"]


def _small(outputs: int) -> Tensor:
    import torch
    from torch import nn

    return nn.init.trunc_normal_(torch.empty(outputs), std=0.001, a=-0.002, b=0.002)


def _learned(name: str, weight: Tensor, bias: Tensor, place: str) -> Parameters:
    return {
        f"{name}.weight": weight.to(place).requires_grad_(),
        f"{name}.bias": bias.to(place).requires_grad_(),
    }

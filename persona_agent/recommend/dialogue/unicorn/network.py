"""UNICORN's network: a state and an action to what the action is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from persona_agent.recommend.data import Csr
from persona_agent.recommend.dialogue.state import NONE
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.dialogue.unicorn.settings import Unicorn
from persona_agent.recommend.dialogue.unicorn.states import States
from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.layers import layer, linear, norm
from persona_agent.recommend.propagation import as_tensor, spread
from persona_agent.recommend.training import Parameters, Tensor
from persona_agent.types import FloatArray

HEAD = ("value", "advantage")  # what has a slow copy that targets are taken from


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """What is the same for all states: which item has what, and where nodes begin.

    Nodes are users, items and attributes, in one table of vectors (nodes, width).
    """

    table: AttributeTable
    settings: Unicorn
    users: int

    def start(self, nodes: FloatArray) -> Parameters:
        """Return fresh parameters; `nodes` (nodes, width) are the given vectors.

        torch's generator decides. "released" draws vectors of the standard normal instead.
        """
        import torch

        width, hidden, inner = nodes.shape[1], self.settings.hidden, self.settings.inner
        if self.settings.variant == "paper":
            vectors = torch.from_numpy(nodes.copy())
        else:
            vectors = torch.randn(nodes.shape).requires_grad_()
        parameters: Parameters = {"nodes": vectors}
        shapes = {
            "near.0": (width, hidden),
            "query": (hidden, hidden),
            "key": (hidden, hidden),
            "content": (hidden, hidden),
            "mixed": (hidden, hidden),
            "inner.0": (hidden, inner),
            "inner.1": (inner, hidden),
            "state": (hidden, hidden),
            "value.0": (hidden, hidden),
            "value.1": (hidden, 1),
            "advantage.0": (hidden + width, hidden),
            "advantage.1": (hidden, 1),
        }
        if self.settings.variant == "paper":
            shapes |= {
                "own.0": (width, hidden),
                "near.1": (hidden, hidden),
                "own.1": (hidden, hidden),
            }
        for name, (inputs, outputs) in shapes.items():
            parameters |= layer(name, inputs, outputs, "cpu")
        return parameters | norm("norm.0", hidden, "cpu") | norm("norm.1", hidden, "cpu")

    def encode(self, parameters: Parameters, states: States) -> Tensor:
        """Return (states, hidden): each state as a vector."""
        import torch.nn.functional as F

        if self.settings.variant == "paper":
            tokens, there = self._layers(parameters, states)
            mixed = _transformer(parameters, tokens, there, self.settings.heads)
            mean = (mixed * there[:, :, None]).sum(dim=1) / there.sum(dim=1)[:, None]
        else:
            tokens = self._sums(parameters, states)
            # attention runs over the first axis, the dialogues of the batch; the padding takes part
            everyone = tokens.new_ones((tokens.shape[1], tokens.shape[0]))
            turned = tokens.transpose(0, 1)
            mixed = _transformer(parameters, turned, everyone, self.settings.heads)
            mean = mixed.mean(dim=0)
        return F.relu(linear(parameters, "state", mean))

    def worth(
        self, parameters: Parameters, encoded: Tensor, actions: Tensor, *, centred: bool
    ) -> Tensor:
        """Return (states, actions): V(s) + A(s, a), and if `centred` less the mean of A.

        `actions` (states, width) are as in `States`; what is NONE is worth -inf. The mean is over
        the actions that are there.
        """
        import torch
        import torch.nn.functional as F

        there = actions != NONE
        vectors = F.embedding((actions + self.users).clamp(min=0), parameters["nodes"])
        both = torch.cat([encoded[:, None].expand(-1, actions.shape[1], -1), vectors], dim=2)
        advantage = linear(
            parameters, "advantage.1", F.relu(linear(parameters, "advantage.0", both))
        )
        advantage = advantage[:, :, 0]
        value = linear(parameters, "value.1", F.relu(linear(parameters, "value.0", encoded)))
        if centred:
            count = there.sum(dim=1, keepdim=True).clamp(min=1)
            value = value - (advantage * there).sum(dim=1, keepdim=True) / count
        return (value + advantage).masked_fill(~there, float("-inf"))

    def _sums(self, parameters: Parameters, states: States) -> Tensor:
        """Return (states, accepted, hidden) of the released code: W (sum of candidates) + b.

        Every candidate has every accepted attribute, so all rows of a state are the same; the rows
        that fill up are zero.
        """
        import torch
        import torch.nn.functional as F

        items = torch.from_numpy(states.items.astype(np.int64))
        vectors = F.embedding((items + self.users).clamp(min=0), parameters["nodes"])
        total = (vectors * (items != NONE)[:, :, None]).sum(dim=1)
        near = linear(parameters, "near.0", total)
        width = int((states.accepted != NONE).sum(axis=1).max())
        there = torch.from_numpy(states.accepted[:, :width] != NONE)
        return near[:, None] * there[:, :, None]

    def _layers(self, parameters: Parameters, states: States) -> tuple[Tensor, Tensor]:
        """Return (states, accepted, hidden) by two layers, and which rows are there, as floats.

        h' = ReLU(W D^-1/2 A D^-1/2 h + B h + b) over user, candidates and attributes; only what
        the accepted attributes' rows need is worked out.
        """
        import torch
        import torch.nn.functional as F

        graph = self._graph(states)
        nodes = parameters["nodes"].numpy()
        first_item, first_attribute = self.users, self.users + len(self.table)
        items = nodes[first_item + graph.items]
        about = graph.to_attributes @ nodes[first_attribute:]
        about += graph.to_user[:, None] * nodes[states.user[graph.owner]]
        owner, place = np.nonzero(states.accepted != NONE)
        accepted = nodes[first_attribute + states.accepted[owner, place]]
        near = torch.from_numpy(np.concatenate([about, graph.to_items @ items]).astype(np.float32))
        own = torch.from_numpy(np.concatenate([items, accepted]))
        inner = F.relu(linear(parameters, "near.0", near) + linear(parameters, "own.0", own))
        of_items, of_accepted = inner.split([len(items), len(accepted)])
        to_items = as_tensor(graph.to_items, "cpu")
        gathered = spread(to_items, of_items, as_tensor(graph.to_items.T.tocsr(), "cpu"))
        rows = F.relu(
            linear(parameters, "near.1", gathered) + linear(parameters, "own.1", of_accepted)
        )
        width = int(place.max()) + 1
        at = torch.from_numpy(owner * width + place)
        tokens = rows.new_zeros((len(states) * width, rows.shape[1])).index_copy(0, at, rows)
        there = rows.new_zeros(len(states) * width)
        there[at] = 1
        return tokens.view(len(states), width, -1), there.view(len(states), width)

    def _graph(self, states: States) -> Graph:
        owner, place = np.nonzero(states.items != NONE)
        items = states.items[owner, place].astype(np.int64)
        weights = states.weights[owner, place]
        has = self.table.has[items].tocoo()
        count, attributes = len(states), len(self.table.attributes)
        key = owner[has.row] * attributes + has.col
        banned = np.zeros(count * attributes, bool)
        row, at = np.nonzero(states.rejected != NONE)
        banned[row * attributes + states.rejected[row, at]] = True
        kept = ~banned[key]
        item, attribute, key = has.row[kept], has.col[kept], key[kept]
        of_attribute = np.bincount(key, minlength=count * attributes)
        of_item = np.bincount(item, minlength=len(items)) + weights
        of_user = np.bincount(owner, weights, minlength=count)
        of_item, of_user = np.maximum(of_item, 1e-9), np.maximum(of_user, 1e-9)
        scaled = (1 / np.sqrt(of_item[item] * of_attribute[key])).astype(np.float32)
        row, at = np.nonzero(states.accepted != NONE)
        numbered = np.full(count * attributes, -1)
        numbered[row * attributes + states.accepted[row, at]] = np.arange(len(row))
        said = numbered[key] >= 0
        return Graph(
            items,
            owner,
            (weights / np.sqrt(of_item * of_user[owner])).astype(np.float32),
            sparse.csr_array((scaled, (item, attribute)), shape=(len(items), attributes)),
            sparse.csr_array(
                (scaled[said], (numbered[key[said]], item[said])), shape=(len(row), len(items))
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The graphs of a batch of states, side by side: candidates, and their scaled edges.

    `to_user` (candidates,), `to_attributes` (candidates, attributes), `to_items` (accepted
    attributes of all states, candidates).
    """

    items: IntArray
    owner: IntArray
    to_user: FloatArray
    to_attributes: Csr
    to_items: Csr


def _transformer(parameters: Parameters, tokens: Tensor, there: Tensor, heads: int) -> Tensor:
    """Return tokens (rows, length, width) after one layer of a Transformer, norms after.

    `there` (rows, length) is 1 for tokens that others may attend to.
    """
    import torch.nn.functional as F

    rows, length, width = tokens.shape
    query, key, content = (
        linear(parameters, name, tokens).view(rows, length, heads, -1).transpose(1, 2)
        for name in ("query", "key", "content")
    )
    mask = there.bool()[:, None, None, :].expand(-1, heads, length, -1)
    mixed = F.scaled_dot_product_attention(query, key, content, attn_mask=mask)
    mixed = linear(parameters, "mixed", mixed.transpose(1, 2).reshape(rows, length, width))
    tokens = _norm(parameters, "norm.0", tokens + mixed)
    inner = linear(parameters, "inner.1", F.relu(linear(parameters, "inner.0", tokens)))
    return _norm(parameters, "norm.1", tokens + inner)


def _norm(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    import torch.nn.functional as F

    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    return F.layer_norm(inputs, weight.shape, weight, bias)

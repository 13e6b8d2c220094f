"""TransR, and the attention that KGAT derives from it, over edges sorted by kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from persona_agent.recommend.neural import shuffled
from persona_agent.recommend.training import Tensor


def project(vectors: Tensor, counts: Sequence[int], maps: Tensor) -> Tensor:
    """Return each vector by the map of its kind, for vectors that come sorted by kind.

    `vectors` (edges, ..., width), `counts` how many are of each kind, `maps` (kinds, width, to).
    """
    import torch

    parts = zip(vectors.split(list(counts)), maps, strict=True)
    return torch.cat([part @ map_ for part, map_ in parts])


def attention(
    nodes: Tensor, heads: Tensor, tails: Tensor, counts: Sequence[int], maps: Tensor, shifts: Tensor
) -> Tensor:
    """Return the weight of each edge among all edges of its head: (W_r t) . tanh(W_r h + r).

    By softmax, so that the weights of a head sum to one. `counts` are the edges of each kind, by
    which they are sorted; `maps` (kinds, width, to) and `shifts` (kinds, to) are the kinds' W and
    r. Source: Wang et al. (2019), equations 4 and 5.
    """
    import torch

    parts = zip(heads.split(list(counts)), tails.split(list(counts)), maps, shifts, strict=True)
    logits = torch.cat(
        [
            ((nodes[tail] @ map_) * (nodes[head] @ map_ + shift).tanh()).sum(dim=1)
            for head, tail, map_, shift in parts
        ]
    )
    return softmax_by(heads, logits, len(nodes))


def softmax_by(group: Tensor, logits: Tensor, groups: int) -> Tensor:
    """Return the softmax of `logits` among those of the same group, numbered below `groups`."""
    peak = logits.new_full((groups,), float("-inf"))
    peak = peak.scatter_reduce(0, group, logits, "amax")
    powers = (logits - peak[group]).exp()
    return powers / logits.new_zeros(groups).index_add(0, group, powers)[group]


def losses(
    nodes: Tensor,
    heads: Tensor,
    kinds: Tensor,
    tails: Tensor,
    maps: Tensor,
    shifts: Tensor,
    *,
    batch: int,
    l2: float,
) -> Iterator[Tensor]:
    """Yield the losses of one pass over the edges, each with a random node in place of its tail.

    The mean of softplus(g(h, r, t) - g(h, r, t')) with g = |W_r h + r - W_r t|^2, and l2 / 2 times
    the mean squared length of h, r, t and t'. t' is uniform over all nodes: where one of them
    happens to be true, it counts as false. Source: Lin et al. (2015); Wang et al. (2019),
    equations 1 and 2.
    """
    import torch
    import torch.nn.functional as F

    for rows in shuffled(len(heads), batch):
        row = torch.from_numpy(rows).to(heads.device)
        kind, order = kinds[row].sort()
        row = row[order]
        false = torch.randint(len(nodes), (len(row),)).to(heads.device)
        vectors = F.embedding(torch.cat([heads[row], tails[row], false]), nodes)
        head, tail, other = vectors.chunk(3)
        counts = torch.bincount(kind, minlength=len(maps)).tolist()
        moves = torch.stack([head - tail, head - other], dim=1)
        shift = F.embedding(kind, shifts)
        true, corrupted = (
            ((project(moves, counts, maps) + shift[:, None]) ** 2).sum(dim=2).unbind(1)
        )
        length = ((vectors**2).sum() + (shift**2).sum()) / len(row)
        yield F.softplus(true - corrupted).mean() + l2 / 2 * length

"""Vectors of users, items and attributes in one space, from the facts of a data set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from persona_agent.recommend.dialogue.lastfm_star import LastFMStar
from persona_agent.recommend.dialogue.scores import VectorScores
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.transe import TransE
from persona_agent.types import FloatArray


def by_transe(
    data: LastFMStar,
    settings: TransE,
    *,
    likes: bool = False,
    on_epoch: Callable[[int, float], None] | None = None,
) -> VectorScores:
    """Return scores by TransE over who chose what in training, who has what, and friends.

    `likes` adds the published attributes that users like. They tell of the test: of attributes
    that only test items have, 2.9% are among them, of those that training items have 1.7%.
    """
    users, table = data.train.users, data.table
    first_item, first_attribute = len(users), len(users) + len(table)
    has = table.has.tocoo()
    parts = [
        (data.train.user, first_item + data.train.item),
        (first_item + has.row, first_attribute + has.col),
        (
            users.positions(one for one, _ in data.friends),
            users.positions(one for _, one in data.friends),
        ),
    ]
    if likes:
        liked = table.attributes.positions(one for _, one in data.liked)
        parts.append((users.positions(one for one, _ in data.liked), first_attribute + liked))
    heads = np.concatenate([head for head, _ in parts]).astype(np.int64)
    tails = np.concatenate([tail for _, tail in parts]).astype(np.int64)
    relations = np.repeat(np.arange(len(parts)), [len(head) for head, _ in parts])
    nodes = first_attribute + len(table.attributes)
    return split(table, settings.fit(heads, relations, tails, nodes, on_epoch=on_epoch), len(users))


def at_random(table: AttributeTable, users: int, *, width: int = 64, seed: int = 0) -> VectorScores:
    """Return scores by vectors of the standard normal: what is left when nothing was learned."""
    rng = np.random.default_rng(seed)
    rows = users + len(table) + len(table.attributes)
    return split(table, rng.standard_normal((rows, width)).astype(np.float32), users)


def split(table: AttributeTable, nodes: FloatArray, users: int) -> VectorScores:
    """Return scores by one table of vectors: users, then items, then attributes."""
    bounds = np.array([users, users + len(table)])
    first, second = bounds.tolist()
    return VectorScores.of(table, nodes[:first], nodes[first:second], nodes[second:])

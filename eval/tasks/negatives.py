"""Wrong answers for choices that popularity does not solve.

Things are put in order by how often they are chosen and cut into blocks of neighbours. The wrong
answers come from the block of the right one, wherever in it that stands: so the right one is as
likely the most popular of the options as the least. Count in histories alone: counts that hold
the right answers themselves, or miss just them, tell the two apart where they are small.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

BLOCK = 24


class Negatives:
    """Draws wrong answers that are about as popular as the right one."""

    def __init__(self, counts: Mapping[str, int], rng: random.Random, block: int = BLOCK) -> None:
        """Use how often each thing was chosen, 0 too; `rng` orders those chosen equally often.

        Raises ValueError for a block below 2. A last block that is less than half is joined to
        the one before it.
        """
        if block < 2:
            raise ValueError(f"block is {block}; it must be at least 2")
        order = sorted(counts)
        rng.shuffle(order)
        order.sort(key=lambda one: -counts[one])
        blocks = [order[begin : begin + block] for begin in range(0, len(order), block)]
        if len(blocks) > 1 and len(blocks[-1]) < block / 2:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
        self._block = {one: part for part in blocks for one in part}

    def draw(
        self, right: str, number: int, never: Collection[str], rng: random.Random
    ) -> list[str] | None:
        """Return `number` others of the block of `right`, none in `never`; None if too few."""
        pool = [one for one in self._block[right] if one != right and one not in never]
        return rng.sample(pool, number) if len(pool) >= number else None


def shuffled(right: str, wrong: Collection[str], rng: random.Random) -> tuple[str, ...]:
    """Return the options of a choice in random order."""
    options = [right, *wrong]
    rng.shuffle(options)
    return tuple(options)

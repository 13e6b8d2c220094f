"""In what order, and on which slot of the engine, a batch runs: a pure plan.

An engine slot keeps the tokens of its last prompt, and reads only what a new prompt adds to the
prefix they share. Slots do not share with each other. So requests with a common prefix run one
after another on one slot, unless running side by side saves more than reading the prefix again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

# Measured with SmolLM2-135M on two cores, in units of one prompt token read (about 3 ms):
DECODE_COST = 3.0  # writing a token, alone
DECODE_OVERLAP = 0.5  # share of the shorter side's writing that two slots at once save
READ_OVERLAP = 0.1  # the same for reading, which fills the cores by itself


@dataclass(frozen=True, slots=True)
class Job:
    """What a request costs: the prompt's tokens, and how many tokens are written after it.

    Jobs of different salts share nothing, even when their tokens are the same.
    """

    tokens: tuple[int, ...]
    decode: int = 1
    salt: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot holds from its last job, and when it was last used (greater is later)."""

    tokens: tuple[int, ...] = ()
    salt: str = ""
    used: int = 0


@dataclass(frozen=True, slots=True)
class Chain:
    """Jobs, by their place in the batch, that run one after another on one slot."""

    slot: int
    jobs: tuple[int, ...]


def plan(jobs: Sequence[Job], slots: Sequence[Slot]) -> list[Chain]:
    """Return chains that hold every job exactly once, at most one chain a slot.

    Jobs are sorted by salt and tokens, so that neighbours share the longest prefixes, and the
    row is cut where that pays: greedily, where the work that then overlaps most exceeds the
    prefix that must be read again. A chain goes to the slot that holds most of its first prompt,
    else to the slot that has not been used for longest. Equal jobs keep their order.
    """
    if not slots:
        raise ValueError("there are no slots; give at least one")
    if not jobs:
        return []
    order = sorted(range(len(jobs)), key=lambda i: (jobs[i].salt, jobs[i].tokens, i))
    rows = _cut([jobs[i] for i in order], len(slots))
    chains = [tuple(order[start:end]) for start, end in rows]
    return _place(chains, jobs, slots)


def shared(one: Sequence[int], two: Sequence[int]) -> int:
    """Return the length of the longest common prefix.

    >>> shared((1, 2, 3), (1, 2, 4, 5))
    2
    """
    count = 0
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        count += 1
    return count


def _cut(row: Sequence[Job], most: int) -> list[tuple[int, int]]:
    """Return the half-open ranges the sorted row is cut into, at most `most`."""
    common = [0] + [
        shared(one.tokens, two.tokens) if one.salt == two.salt else 0 for one, two in pairwise(row)
    ]
    savings = [
        READ_OVERLAP * (len(job.tokens) - kept) + DECODE_OVERLAP * DECODE_COST * job.decode
        for job, kept in zip(row, common, strict=True)
    ]
    total = list(accumulate(savings, initial=0.0))

    def best(start: int, end: int) -> tuple[float, int]:
        gains = (
            (min(total[at] - total[start], total[end] - total[at]) - common[at], -at)
            for at in range(start + 1, end)
        )
        gain, at = max(gains, default=(0.0, 0))
        return gain, -at

    ranges = [(0, len(row))]
    while len(ranges) < most:
        (gain, at), (start, end) = max((best(*one), one) for one in ranges)
        if gain <= 0:
            break
        ranges.remove((start, end))
        ranges += [(start, at), (at, end)]
    return sorted(ranges)


def _place(
    chains: Sequence[tuple[int, ...]], jobs: Sequence[Job], slots: Sequence[Slot]
) -> list[Chain]:
    def held(chain: int, slot: int) -> int:
        job, there = jobs[chains[chain][0]], slots[slot]
        return shared(job.tokens, there.tokens) if job.salt == there.salt else 0

    pairs = sorted(
        ((c, s) for c in range(len(chains)) for s in range(len(slots))),
        key=lambda pair: (-held(*pair), slots[pair[1]].used, pair),
    )
    slot_of: dict[int, int] = {}
    for chain, slot in pairs:
        if chain not in slot_of and slot not in slot_of.values():
            slot_of[chain] = slot
    return [Chain(slot_of[c], chains[c]) for c in range(len(chains))]

"""In what order, and on which slot of which engine, a batch runs: a pure plan.

An engine slot keeps the tokens of its last prompt, and reads only what a new prompt adds to the
prefix they share. Slots do not share with each other. So requests with a common prefix run one
after another on one slot, unless running side by side saves more than reading the prefix again:
on another engine, which has a core of its own, all of the work is saved; on another slot of the
same engine, little of the reading and half of the writing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def plan(jobs: Sequence[Job], slots: Sequence[Slot], *, engines: int = 1) -> list[Chain]:
    """Return chains that hold every job exactly once, at most one chain a slot.

    Slot i belongs to engine i % `engines`. Jobs are sorted by salt and tokens, so that neighbours
    share the longest prefixes, and the row is cut where that pays: greedily, where the work that
    then overlaps most exceeds the prefix that must be read again. Chains are spread over the
    engines; on an engine a chain goes to the slot that holds most of its first prompt, else to
    the one that has not been used for longest. Equal jobs keep their order.
    """
    if not slots:
        raise ValueError("there are no slots; give at least one")
    if not 1 <= engines <= len(slots):
        raise ValueError(f"engines is {engines}; it must be 1 to the number of slots")
    if not jobs:
        return []
    order = sorted(range(len(jobs)), key=lambda i: (jobs[i].salt, jobs[i].tokens, i))
    rows = _cut([jobs[i] for i in order], len(slots), engines)
    chains = [tuple(order[start:end]) for start, end in rows]
    return _place(chains, jobs, slots, engines)


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


def _cut(row: Sequence[Job], most: int, engines: int) -> list[tuple[int, int]]:
    """Return the half-open ranges the sorted row is cut into, at most `most`."""
    common = [0] + [
        shared(one.tokens, two.tokens) if one.salt == two.salt else 0 for one, two in pairwise(row)
    ]
    reads = [len(job.tokens) - kept for job, kept in zip(row, common, strict=True)]
    writes = [DECODE_COST * job.decode for job in row]
    apart = _sums(read + write for read, write in zip(reads, writes, strict=True))
    together = _sums(
        READ_OVERLAP * read + DECODE_OVERLAP * write
        for read, write in zip(reads, writes, strict=True)
    )

    def best(start: int, end: int, total: Sequence[float]) -> tuple[float, int]:
        gains = (
            (min(total[at] - total[start], total[end] - total[at]) - common[at], -at)
            for at in range(start + 1, end)
        )
        gain, at = max(gains, default=(0.0, 0))
        return gain, -at

    ranges = [(0, len(row))]
    while len(ranges) < most:
        total = apart if len(ranges) < engines else together
        (gain, at), (start, end) = max((best(*one, total), one) for one in ranges)
        if gain <= 0:
            break
        ranges.remove((start, end))
        ranges += [(start, at), (at, end)]
    return sorted(ranges)


def _sums(costs: Iterable[float]) -> list[float]:
    return list(accumulate(costs, initial=0.0))


def _place(
    chains: Sequence[tuple[int, ...]], jobs: Sequence[Job], slots: Sequence[Slot], engines: int
) -> list[Chain]:
    def held(chain: int, slot: int) -> int:
        job, there = jobs[chains[chain][0]], slots[slot]
        return shared(job.tokens, there.tokens) if job.salt == there.salt else 0

    known = {c: [held(c, s) for s in range(len(slots))] for c in range(len(chains))}
    slot_of: dict[int, int] = {}
    load = [0] * engines
    for chain in sorted(known, key=lambda c: (-max(known[c]), c)):
        free = [s for s in range(len(slots)) if s not in slot_of.values()]
        slot = min(free, key=lambda s: (load[s % engines], -known[chain][s], slots[s].used, s))
        slot_of[chain] = slot
        load[slot % engines] += 1
    return [Chain(slot_of[c], chains[c]) for c in range(len(chains))]

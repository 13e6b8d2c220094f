"""Does memory find what a question is about? Real memory, real modes, evidence that is known.

LoCoMo and PrefEval name the turns in which the answer lies, so no judge is needed: a question is a
hit if one of its turns is among the k that are recalled. Intervals are over clusters, which are
conversations or topics, since questions about one are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from persona_agent.eval.statistics import Interval, clustered_mean, paired
from persona_agent.eval.tasks.locomo import ADVERSARIAL, locomo
from persona_agent.eval.tasks.prefeval import prefeval
from persona_agent.eval.tasks.probes import Probe, ProbeSet
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.ports import Embedder
from persona_agent.types import FloatArray, RecallMode, RecallRequest, Record, Scope

TOGETHER = 50  # users in one database: an item of PrefEval has 318 turns
ALL_TOKENS = 10**9  # `k` alone bounds what comes back
ALL = "all"
DATASETS: Mapping[str, Callable[[Path], ProbeSet]] = {"locomo": locomo, "prefeval": prefeval}

Tell: TypeAlias = Callable[[int, int], None]
Hits: TypeAlias = dict[tuple[RecallMode, int], list[float]]


@dataclass(frozen=True, slots=True)
class Row(Record):
    """How often one mode finds the evidence among `k`: `hit` any of it, `found` the share of it.

    `gain` is the hit rate less that of the first mode asked for, question by question; None for
    that mode itself.
    """

    kind: str
    mode: RecallMode
    k: int
    hit: Interval
    found: Interval
    gain: Interval | None


@dataclass(frozen=True, slots=True)
class Recall(Record):
    """What a study of recall found.

    `memories` is the mean number of turns to choose from; `skipped` are turns that the memory's
    screen refused: questions about them cannot be hits.
    """

    dataset: str
    embedder: str
    users: int
    questions: int
    memories: float
    skipped: int
    left_out: Mapping[str, int]
    rows: tuple[Row, ...]


def measure(
    probes: ProbeSet,
    embedder: Embedder,
    *,
    modes: Sequence[RecallMode] = ("recent", "similar", "hybrid"),
    ks: Sequence[int] = (5, 10),
    tell: Tell = lambda done, due: None,
) -> Recall:
    """Return how often each mode finds the evidence of the questions among its `k` best.

    Every user's turns are stored in a real database, which is searched as an agent's is. All
    figures are for "all" and for each kind of question; of LoCoMo "all" leaves out the adversarial
    ones, as everybody does. `tell` is called with how many users are done and due.
    """
    asked = [(mode, k) for mode in modes for k in ks]
    if not asked or len(set(asked)) < len(asked) or min(ks) < 1:
        raise ValueError(f"modes are {modes!r} and k {ks!r}; give one of each or more, once")
    hits: Hits = {one: [] for one in asked}
    found: Hits = {one: [] for one in asked}
    order: list[Probe] = []
    embedded = _Once(embedder)
    users = iter(probes.memories)
    done = skipped = 0
    while group := list(islice(users, TOGETHER)):
        own = [probe for probe in probes.probes if probe.user in set(group)]
        with TemporaryDirectory() as folder, closing(Store.open(f"{folder}/recall.db")) as store:
            memory = EpisodicMemory(store, embedded)
            for user in group:
                lived = probes.memories[user]
                added = memory.add(lived, lived[-1].when)
                skipped += sum(one.event == "SKIP" for one in added)
                done += 1
                tell(done, len(probes.memories))
            for mode, k in asked:
                replies = memory.recall(
                    [RecallRequest(Scope(p.user), mode, p.query, k, ALL_TOKENS) for p in own]
                )
                for probe, reply in zip(own, replies, strict=True):
                    there = {one.interaction.id for one in reply.memories} & probe.evidence
                    hits[mode, k].append(float(bool(there)))
                    found[mode, k].append(len(there) / len(probe.evidence))
        order += own
    return Recall(
        probes.name,
        embedder.name,
        len(probes.memories),
        len(order),
        float(np.mean([len(lived) for lived in probes.memories.values()])),
        skipped,
        probes.left_out,
        tuple(_rows(order, asked, hits, found)),
    )


def _rows(
    order: Sequence[Probe], asked: Sequence[tuple[RecallMode, int]], hits: Hits, found: Hits
) -> list[Row]:
    kinds = [ALL, *dict.fromkeys(sorted(probe.kind for probe in order))]
    rows = []
    for kind in kinds[:1] if len(kinds) == 2 else kinds:
        places = [
            at
            for at, probe in enumerate(order)
            if kind == probe.kind or (kind == ALL and probe.kind != ADVERSARIAL)
        ]
        if not places:
            continue
        for mode, k in asked:
            mine = _clustered(order, places, hits[mode, k])
            first = _clustered(order, places, hits[asked[0][0], k])
            rows.append(
                Row(
                    kind,
                    mode,
                    k,
                    clustered_mean(mine),
                    clustered_mean(_clustered(order, places, found[mode, k])),
                    None if mode == asked[0][0] else clustered_mean(paired(mine, first)),
                )
            )
    return rows


def _clustered(
    order: Sequence[Probe], places: Sequence[int], values: Sequence[float]
) -> dict[str, list[float]]:
    clusters: dict[str, list[float]] = {}
    for at in places:
        clusters.setdefault(order[at].cluster, []).append(values[at])
    return clusters


class _Once:
    """An embedder that embeds each text once: users of PrefEval share all turns but one."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, FloatArray] = {}

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dim(self) -> int:
        return self._embedder.dim

    def embed(self, texts: Sequence[str]) -> FloatArray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.embed(new), strict=True))
        return np.array([self._known[text] for text in texts], np.float32).reshape(-1, self.dim)

"""Questions about the past whose answer lies in known places of it: tests of memory, without a judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType

from persona_agent.types import Interaction, Record


@dataclass(frozen=True, slots=True)
class Probe(Record):
    """A question that a user asks after all that is remembered, and where its evidence lies.

    `evidence` are ids of interactions of the user. `cluster` says which questions are not
    independent of each other: one conversation, one topic. `kind` is how the data set calls it.
    """

    user: str
    query: str
    evidence: frozenset[str]
    kind: str
    cluster: str


@dataclass(frozen=True, slots=True)
class ProbeSet(Record):
    """What users lived through, in time order, and the questions about it.

    `left_out` says how many questions could not be used, by reason.
    """

    name: str
    memories: Mapping[str, tuple[Interaction, ...]]
    probes: tuple[Probe, ...]
    left_out: Mapping[str, int]

    def __post_init__(self) -> None:
        memories = {user: tuple(lived) for user, lived in self.memories.items()}
        object.__setattr__(self, "memories", MappingProxyType(memories))
        object.__setattr__(self, "probes", tuple(self.probes))
        if not self.probes:
            raise ValueError(f"probe set {self.name!r} has no question")
        known = {user: {one.id for one in lived} for user, lived in memories.items()}
        for user, lived in memories.items():
            if len(known[user]) < len(lived):
                raise ValueError(f"memories of {user!r} have an id twice; ids must differ")
            if any(one.scope.user != user for one in lived):
                raise ValueError(f"memories of {user!r} hold what is another user's")
            if list(lived) != sorted(lived, key=lambda one: one.when):
                raise ValueError(f"memories of {user!r} are not in time order")
        for probe in self.probes:
            if not probe.evidence or probe.evidence - known.get(probe.user, set()):
                raise ValueError(
                    f"the evidence of {probe.query[:60]!r} is {sorted(probe.evidence)!r}; "
                    f"give one or more interactions of {probe.user!r}"
                )

    def sample(self, users: int, seed: int = 0) -> ProbeSet:
        """Return the questions of so many users drawn by `seed`; of all if there are no more."""
        if users < 1:
            raise ValueError(f"users is {users}; it must be at least 1")
        drawn = set(Random(seed).sample(sorted(self.memories), min(users, len(self.memories))))
        return replace(
            self,
            memories={user: lived for user, lived in self.memories.items() if user in drawn},
            probes=tuple(probe for probe in self.probes if probe.user in drawn),
        )

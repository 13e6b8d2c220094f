"""What the index is asked, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from persona_agent.types import Explanation, Fact, FloatArray, Interaction, RecallKind, Scope


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is looked up: the `k` events of a scope nearest to `vector`, or the latest without one.

    With `words` what they say of an event is fused with how near it is. Only what is strictly
    earlier than the event `before` is found, and nothing later than `until`, in microseconds.
    `half_life`, in seconds, and `salience` weigh what is found.
    """

    scope: Scope
    k: int
    vector: FloatArray | None = None
    before: str | None = None
    words: str | None = None
    until: int | None = None
    half_life: float | None = None
    salience: bool = False
    explain: bool = False
    kinds: tuple[RecallKind, ...] = ("event",)

    @property
    def needs_texts(self) -> bool:
        """Whether vectors and times are not enough."""
        return self.words is not None or self.salience

    @property
    def needs_facts(self) -> bool:
        """Whether facts are searched, too."""
        return "fact" in self.kinds and self.vector is not None


class Hit(NamedTuple):
    """An event that was found, and its cosine similarity; without a vector, 1 / its recency.

    With words the score is what `ranking.fuse` makes of both; weights multiply it. See `RecallRequest`.
    Of a fact, the event is the latest that it rests on.
    """

    id: str
    score: float
    explanation: Explanation | None = None
    fact: Fact | None = None

    def text(self, event: Interaction) -> str:
        """Return what was found, given the event."""
        return event.text if self.fact is None else self.fact.text

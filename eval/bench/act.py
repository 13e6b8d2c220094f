"""What one answer costs besides the model, for a user with 1,000 memories."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from persona_agent.agent import PersonaAgent
from persona_agent.llm import FakeLLM
from persona_agent.memory.minilm import MiniLMEmbedder
from persona_agent.ports import Embedder
from persona_agent.types import FloatArray, Interaction, Scope

MEMORIES = 1000
USER = "reader"


def measure(*, repeats: int) -> dict[str, float]:
    """Return medians over `repeats` answers, in milliseconds.

    `act_p50_ms` is everything but the model and the embedding: persona, recall of recent and
    similar memories from disk, the prompt. `embed_p50_ms` is the embedding of the question.
    """
    embedder = _Timed(MiniLMEmbedder())
    with tempfile.TemporaryDirectory() as folder:
        agent = PersonaAgent.open(
            Path(folder) / "bench.db",
            llm=FakeLLM(lambda request: "Yes."),
            embedder=embedder,
        )
        with agent:
            agent.add(_memories())
            acts, embeds = [], []
            for number in range(repeats + 5):
                question = f"What do you think of book {number * 7 % MEMORIES}?"
                embedder.seconds = 0.0
                begun = time.perf_counter()
                agent.ask(question, user_id=USER)
                seconds = time.perf_counter() - begun
                acts.append(seconds - embedder.seconds)
                embeds.append(embedder.seconds)
    return {
        "memories": MEMORIES,
        "act_p50_ms": 1000 * median(acts[5:]),
        "act_p99_ms": 1000 * sorted(acts[5:])[int(len(acts[5:]) * 0.99)],
        "embed_p50_ms": 1000 * median(embeds[5:]),
    }


class _Timed:
    """An embedder that measures its own time."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def dim(self) -> int:
        return self._inner.dim

    def embed(self, texts: Sequence[str]) -> FloatArray:
        begun = time.perf_counter()
        vectors = self._inner.embed(texts)
        self.seconds += time.perf_counter() - begun
        return vectors


def _memories() -> list[Interaction]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    topics = ("history", "poetry", "crime", "science", "travel", "cooking", "music")
    return [
        Interaction(
            Scope(USER),
            start + timedelta(minutes=number),
            f"I read book {number}, a work of {topics[number % 7]} from {1900 + number % 120}.",
            response="Thank you for telling me.",
        )
        for number in range(MEMORIES)
    ]

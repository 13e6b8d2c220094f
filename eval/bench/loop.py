"""What the framework costs per model request, aligning many users with a fake model."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.eval.movielens import RATING
from persona_agent.llm import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.types import Interaction, ModelReply, ModelRequest, Scope

EVENTS = 50
GENRES = ("Drama", "Comedy", "Action", "Horror", "Romance", "Thriller")


def measure(*, users: int, seed: int = 0) -> dict[str, float]:
    """Return the figures of aligning `users` users of 50 events each.

    `overhead_ms_per_request` is the time of the alignment, without what the fake model takes, by
    model requests; `model_rounds` counts the calls of the model, each a whole batch; `peak_mb` is
    the peak resident memory of the process. The events are stored beforehand.
    """
    rng = random.Random(seed)
    model = _Timed()
    with tempfile.TemporaryDirectory() as folder:
        agent = PersonaAgent.open(
            Path(folder) / "bench.db",
            llm=model,
            embedder=HashEmbedder(32),
            task=RATING,
            options=AlignOptions(rounds=2),
        )
        with agent:
            for start in range(0, users, 100):
                names = range(start, min(start + 100, users))
                agent.add([event for user in names for event in _events(f"user-{user}", rng)])
            model.reset()
            begun = time.perf_counter()
            results = agent.align()
            seconds = time.perf_counter() - begun
    for result in results:
        result.unwrap()
    return {
        "users": users,
        "overhead_ms_per_request": 1000 * (seconds - model.seconds) / model.requests,
        "model_rounds": model.rounds,
        "requests": model.requests,
        "seconds": seconds,
        "peak_mb": _peak_mb(),
    }


class _Timed:
    """A fake model that measures its own time, which is not the framework's."""

    def __init__(self) -> None:
        self._fake = FakeLLM(_answer)
        self.reset()

    def reset(self) -> None:
        self.rounds = self.requests = 0
        self.seconds = 0.0
        self._fake.calls.clear()

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        begun = time.perf_counter()
        replies = self._fake.complete(requests)
        self._fake.calls.clear()  # a record of a million requests is not what is measured
        self.seconds += time.perf_counter() - begun
        self.rounds += 1
        self.requests += len(requests)
        return replies


def _answer(request: ModelRequest) -> str | list[float]:
    """Return scores that depend on the prompt, lines where lines are asked for, else a word."""
    if request.choices:
        rng = random.Random(request.messages[-1].content)
        return [rng.gauss(0, 1) for _ in request.choices]
    if request.schema is not None:
        return json.dumps({"lines": [f"likes {len(request.messages[-1].content)} things"]})
    return "say more about genres"


def _events(user: str, rng: random.Random) -> list[Interaction]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Interaction(
            Scope(user),
            start + timedelta(hours=number),
            f"Film {rng.randrange(10_000)}",
            outcome=str(rng.randint(1, 5)),
            metadata={"genres": rng.sample(GENRES, 2)},
        )
        for number in range(EVENTS)
    ]


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)

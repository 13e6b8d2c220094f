"""A small world of raters, a model that reads their prompts, and runs over both."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from persona_agent.eval.ablation.run import Example, Run, Settings, Spent
from persona_agent.eval.ablation.study import Ablation, ablate
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.task import Task
from persona_agent.types import Interaction, ModelRequest, Scope

RATING = Task(
    "rating", query_label="Film", outcome_label="Rating", options=tuple("12345"), numeric=True
)
GENRES = ("Comedy", "Drama", "War")
START = datetime(2020, 1, 1, tzinfo=UTC)
Runs = Callable[..., Ablation]


def rated(user: str, number: int, rng: random.Random) -> Interaction:
    genre = rng.choice(GENRES)
    stars = min(5, max(1, round(rng.gauss(2 + (int(user) % 3) + (genre == "Comedy"), 0.8))))
    return Interaction(
        Scope(user),
        START + timedelta(days=number),
        f"Film {number} of {user}, {genre}",
        outcome=str(stars),
        item=f"film-{number}",
        metadata={"genres": [genre]},
        id=f"{user}-{number}",
    )


def tasks_of(users: int, known: int = 30, asked: int = 3) -> TaskSet:
    rng = random.Random(0)
    lines = {str(user): [rated(str(user), n, rng) for n in range(known + asked)]
             for user in range(users)}  # fmt: skip
    return TaskSet(
        "small",
        RATING,
        {user: tuple(own[:known]) for user, own in lines.items()},
        tuple(one for own in lines.values() for one in own[known:]),
        "Say the rating.",
        ("expected_mae", "mae", "accuracy"),
    )


def reader(request: ModelRequest) -> str | list[float]:
    """A model that goes by the mean of the ratings in the prompt, and by its exact words a little."""
    text = "\n".join(message.content for message in request.messages)
    if not request.choices:
        return (
            '{"query": "Comedy"}' if request.purpose == "search" else "They like comedies.</think>"
        )
    shown = [line.removeprefix("Rating: ") for line in text.splitlines()]
    stars = [int(one) for one in shown if one.isdigit()]
    centre = sum(stars) / len(stars) if stars else 3.0
    noise = random.Random(hashlib.sha256(text.encode()).hexdigest())
    return [-abs(float(one) - centre) + noise.gauss(0, 0.1) for one in request.choices]


@pytest.fixture(scope="session")
def small() -> TaskSet:
    return tasks_of(8)


@pytest.fixture
def new_llm() -> Callable[[], FakeLLM]:
    """Give a function that returns a new model that reads ratings."""
    return lambda: FakeLLM(reader)


@pytest.fixture
def made_up() -> Callable[..., Run]:
    """Give a function that returns the run of made-up scores, by arm and user."""

    def make(scores: Mapping[str, Mapping[str, Sequence[float]]], reference: str) -> Run:
        examples = tuple(
            Example(arm, user, str(place), "1", "1", None, value, None, None)
            for arm, own in scores.items()
            for user, values in own.items()
            for place, value in enumerate(values)
        )
        spent = tuple(
            Spent(arm, user, 1, 10, 5, 1, 0.5, None) for arm, own in scores.items() for user in own
        )
        others = tuple(arm for arm in scores if arm != reference)
        settings = Settings(others, reference=reference)
        metrics = {arm: {"accuracy": 0.5} for arm in settings.names}
        about = dict.fromkeys(settings.names, "")
        return Run("made up", "accuracy", "none", settings, about, metrics, examples, spent, 0)

    return make


@pytest.fixture
def runs(small: TaskSet, tmp_path: Path) -> Runs:
    """Give a function that runs arms on the small world with the reader, or another model."""

    def run(*arms: str, llm: FakeLLM | None = None, **settings: object) -> Ablation:
        return ablate(
            small,
            llm or FakeLLM(reader),
            Settings(arms, users=6, queries=2, **settings),  # type: ignore[arg-type]
            tmp_path,
            model="reader",
            embedder=HashEmbedder(),
        )

    return run

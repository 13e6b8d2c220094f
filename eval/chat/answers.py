"""How well answers are read: a hand-made set in several languages, by words, model and both."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeAlias, cast

from persona_agent.chat.likeness import LIKENESS, Likeness
from persona_agent.chat.reading import Asked, Reading, read
from persona_agent.chat.state import MEANINGS, Meaning
from persona_agent.chat.words import shipped
from persona_agent.drive import Ports, run
from persona_agent.errors import InputError
from persona_agent.eval.statistics import Interval, clustered_mean
from persona_agent.ports import LLM, Embedder
from persona_agent.types import ModelReply, ModelRequest, Record, Scope

QUESTIONS = {
    "attribute": "Are you in the mood for Film-Noir?",
    "items": "Would you like one of these: Heat (1995); Gilda (1946); Alien (1979)?",
}
IN_USE = "words, then all of that"
NOBODY = Scope("nobody")

Guess: TypeAlias = Sequence[Meaning]


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """An answer of the set: its language, what was asked, and what it means."""

    language: str
    question: str
    meaning: Meaning
    text: str


@dataclass(frozen=True, slots=True)
class Arm(Record):
    """How well one way of reading does: share right, of all and of parts, and its confusion.

    `confusion` counts answers by true meaning, then by what was read.
    """

    right: Interval
    parts: Mapping[str, Interval]
    confusion: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Report(Record):
    """All ways of reading; how many answers words alone read; milliseconds a model request."""

    part: str
    answers: int
    by_words: int
    ms: float
    arms: Mapping[str, Arm]
    wrong: tuple[tuple[str, str, str], ...]


def load(part: str) -> list[Answer]:
    """Return the answers of a part: "dev", by which settings were chosen, or "test"."""
    source = files("persona_agent.eval.chat").joinpath("answers.tsv")
    lines = source.read_text(encoding="utf-8").splitlines()
    found = []
    for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["meaning"] not in MEANINGS or row["question"] not in QUESTIONS:
            raise InputError(f"answers.tsv has a row that is none: {row!r}")
        if row["part"] == part:
            meaning = cast(Meaning, row["meaning"])
            found.append(Answer(row["language"], row["question"], meaning, row["answer"]))
    if not found:
        raise ValueError(f"there is no part {part!r}; there are dev and test")
    return found


def measure(
    llm: LLM, embedder: Embedder, part: str, tell: Callable[[str, int, int], None]
) -> Report:
    """Return how each way of reading does on a part of the set."""
    answers = load(part)
    asked = [Asked(QUESTIONS[one.question], one.text) for one in answers]
    lexicon = shipped()
    quick = [lexicon.quick(one.text) for one in answers]
    often = max(MEANINGS, key=lambda one: sum(answer.meaning == one for answer in answers))

    likeness = Likeness(embedder)
    asked_once = _AskedOnce(llm)

    def by_model(*, calibrated: bool, examples: bool = False) -> Guess:
        program = read(NOBODY, asked, None, calibrated=calibrated, examples=examples)
        found: list[Reading] = run(program, Ports(asked_once, tools={LIKENESS: likeness}))
        return [one.meaning for one in found]

    ways: dict[str, Callable[[], Guess]] = {
        "always the same": lambda: [often] * len(answers),
        "words alone": lambda: ["other" if one is None else one.meaning for one in quick],
        "nearest examples": lambda: likeness.nearest([one.text for one in answers]),
        "model": lambda: by_model(calibrated=False),
        "model, calibrated": lambda: by_model(calibrated=True),
        "model, calibrated, and examples": lambda: by_model(calibrated=True, examples=True),
    }
    arms: dict[str, Arm] = {}
    guesses: Guess = ()
    for number, (name, way) in enumerate(ways.items()):
        tell("ways of reading", number, len(ways))
        guesses = way()
        arms[name] = _arm(answers, guesses)
    both = [
        guess if one is None else one.meaning for one, guess in zip(quick, guesses, strict=True)
    ]
    arms[IN_USE] = _arm(answers, both)
    wrong = [
        (one.text, one.meaning, guess)
        for one, guess in zip(answers, both, strict=True)
        if one.meaning != guess
    ]
    tell("ways of reading", len(ways), len(ways))
    by_words = sum(one is not None for one in quick)
    return Report(part, len(answers), by_words, asked_once.ms, arms, tuple(wrong))


class _AskedOnce:
    """A model that is asked each thing once: the ways of reading share their requests."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._known: dict[str, ModelReply] = {}
        self._seconds = 0.0

    @property
    def ms(self) -> float:
        """The milliseconds that a request took, in batches."""
        return 1000 * self._seconds / max(len(self._known), 1)

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order."""
        fresh = {one.messages[-1].content: one for one in requests}
        fresh = {key: one for key, one in fresh.items() if key not in self._known}
        begun = time.perf_counter()
        replies = self._llm.complete(list(fresh.values())) if fresh else []
        self._seconds += time.perf_counter() - begun
        self._known.update(zip(fresh, replies, strict=True))
        return [self._known[one.messages[-1].content] for one in requests]


def _arm(answers: Sequence[Answer], guesses: Guess) -> Arm:
    right = [float(a.meaning == b) for a, b in zip(answers, guesses, strict=True)]

    def share(of: Callable[[Answer], bool]) -> Interval:
        return clustered_mean({str(at): [right[at]] for at, one in enumerate(answers) if of(one)})

    confusion: dict[str, dict[str, int]] = {
        str(one): {
            str(other): sum(
                a.meaning == one and b == other for a, b in zip(answers, guesses, strict=True)
            )
            for other in MEANINGS
        }
        for one in MEANINGS
    }
    parts = {
        "English": share(lambda one: one.language == "en"),
        "other languages": share(lambda one: one.language != "en"),
        "of attributes": share(lambda one: one.question == "attribute"),
        "of lists": share(lambda one: one.question == "items"),
    }
    return Arm(share(lambda _: True), parts, confusion)

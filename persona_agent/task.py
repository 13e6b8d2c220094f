"""What is to be predicted about a user, and how a prediction is scored."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_agent import prompts
from persona_agent.types import Interaction, Record

MAX_LABELS = 24
WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Task(Record):
    """A kind of outcome: what it is called, and what it can be.

    `options` is the closed set of outcomes; an interaction's own options come before it; with
    neither the outcome is free text. `numeric` options are numbers in rising order, and are
    predicted as an expectation too. `item_name` is what an interaction is about: "film".
    """

    name: str
    query_label: str = "Query"
    outcome_label: str = "Answer"
    options: tuple[str, ...] = ()
    numeric: bool = False
    item_name: str = "item"
    max_tokens: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if self.numeric:
            if len(self.options) < 2:
                raise ValueError(f"numeric task {self.name!r} needs two options or more")
            values = [float(option) for option in self.options]
            if values != sorted(set(values)):
                raise ValueError(
                    f"the options of numeric task {self.name!r} are {self.options!r}; "
                    "they must be numbers that rise"
                )

    @property
    def values(self) -> tuple[float, ...]:
        """The options as numbers; empty where the task is not numeric."""
        return tuple(float(option) for option in self.options) if self.numeric else ()


@dataclass(frozen=True, slots=True)
class Situation(Record):
    """What is known before an outcome: an interaction without what came of it."""

    query: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction(Record):
    """What an agent expects a user to do.

    `logprobs`, one for each of `options`, are normalised over them; None where the engine gives
    none. `expected` is the mean of a numeric outcome under them.
    """

    text: str
    options: tuple[str, ...] = ()
    logprobs: tuple[float, ...] | None = None
    expected: float | None = None
    error: str | None = None

    def loglik(self, outcome: str) -> float | None:
        """Return the log-probability of `outcome` among the options; None where not known."""
        if self.logprobs is None or outcome not in self.options:
            return None
        return self.logprobs[self.options.index(outcome)]


def situation(interaction: Interaction, task: Task) -> Situation:
    """Return what may be shown of an interaction whose outcome is to be predicted."""
    return Situation(interaction.query, interaction.options or task.options)


def is_labelled(interaction: Interaction) -> bool:
    """Whether the user's real outcome is known, and is the user's own."""
    return interaction.outcome is not None and interaction.role == "user"


def score(task: Task, prediction: Prediction, outcome: str) -> float:
    """Return how good a prediction is; higher is better.

    Numeric: minus the absolute error, of the expectation where there is one (0 is perfect).
    Options: 1 if right, else 0. Free text: word F1, which is ROUGE-1's F measure.
    A prediction with an error scores worst: minus the range, or 0.
    """
    if task.numeric:
        if prediction.error is not None:
            return min(task.values) - max(task.values)
        guess = prediction.expected
        return -abs((float(prediction.text) if guess is None else guess) - float(outcome))
    if prediction.error is not None:
        return 0.0
    if prediction.options:
        return float(prediction.text == outcome)
    return word_f1(prediction.text, outcome)


def is_right(task: Task, value: float) -> bool:
    """Whether a score counts as right: within half a step, the right option, or F1 of .5."""
    if task.numeric:
        step = min(b - a for a, b in zip(task.values, task.values[1:], strict=False))
        return value > -step / 2
    return value >= 0.5


def word_f1(predicted: str, real: str) -> float:
    """Return the F measure of the words two texts share, in [0, 1]; ROUGE-1 (Lin 2004).

    >>> word_f1("a good film", "A good, good film")
    0.8571428571428571
    """
    a, b = (Counter(WORD.findall(text.casefold())) for text in (predicted, real))
    if not a or not b:
        return float(a == b)
    return 2 * (a & b).total() / (a.total() + b.total())


def infer_task(interactions: Sequence[Interaction]) -> Task:
    """Return the task that a user's labelled interactions imply.

    Numbers of at most 24 kinds are ratings, whole numbers without gaps; interactions with options
    of their own, or at most 24 outcomes that repeat, are choices; anything else is free text. The
    metadata keys `query_label`, `outcome_label` and `item_name` of the latest interaction name
    things. Raises ValueError without labelled interactions.
    """
    labelled = [one for one in interactions if is_labelled(one)]
    if not labelled:
        raise ValueError("no interaction has an outcome; add outcomes to predict them")
    outcomes = Counter(one.outcome or "" for one in labelled)
    if ratings := _rating_options(list(outcomes)):
        return _named(
            Task("rating", outcome_label="Rating", options=ratings, numeric=True), labelled
        )
    choice = Task("choice", outcome_label="Choice")
    if all(one.options for one in labelled):
        return _named(choice, labelled)
    if 2 <= len(outcomes) <= MAX_LABELS and len(labelled) >= 2 * len(outcomes):
        return _named(replace(choice, options=tuple(sorted(outcomes))), labelled)
    return _named(Task("words"), labelled)


def _named(task: Task, labelled: Sequence[Interaction]) -> Task:
    names = {
        key: prompts.as_data(str(labelled[-1].metadata.get(key, "")), 40) or getattr(task, key)
        for key in ("query_label", "outcome_label", "item_name")
    }
    return replace(
        task,
        query_label=names["query_label"],
        outcome_label=names["outcome_label"],
        item_name=names["item_name"],
    )


def _rating_options(outcomes: Sequence[str]) -> tuple[str, ...]:
    """Return the scale that outcomes are numbers on, rising; empty where they are not."""
    try:
        numbers = sorted({float(outcome) for outcome in outcomes})
    except ValueError:
        return ()
    if not 2 <= len(numbers) <= MAX_LABELS or not all(map(math.isfinite, numbers)):
        return ()
    if len(numbers) < len(outcomes):  # one number written in two ways: "4" and "4.0"
        return ()
    if all(re.fullmatch(r"-?\d+", outcome) for outcome in outcomes):
        low, high = int(numbers[0]), int(numbers[-1])
        if high - low < MAX_LABELS:
            return tuple(str(number) for number in range(low, high + 1))
    return tuple(sorted(outcomes, key=float))

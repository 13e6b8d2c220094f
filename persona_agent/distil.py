"""Self-distillation: thoughts of the model itself that led it to what a person really did.

For each case several thoughts are drawn without showing the outcome, and the answer is asked for
after each. What is kept led to the real outcome, names something of the person's past, ended
within its budget and does not run in circles. A case that no thought solved may be thought about
again with the outcome shown as a hint; what comes of it is marked `rationalised`, and kept only if
it leads to the outcome where the hint is not shown.

Source: PRIME (Zhang, Beauchamp and Wang 2025), whose filter is not published: the conditions are
ours; rationalisation is STaR's (Zelikman et al. 2022).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from persona_agent.mine import COMMON_WORDS
from persona_agent.predict import Job, read
from persona_agent.program import Program, complete
from persona_agent.task import Prediction, Task, is_labelled, is_right, score, situation
from persona_agent.think import (
    ThinkOptions,
    Thought,
    after_thought,
    cases_of,
    ended,
    read_thought,
    thought_messages,
    thought_request,
    without_thought,
)
from persona_agent.types import Interaction, Message, Record

NUMBER = re.compile(r"\[(\d{1,3})\]")
WORD = re.compile(r"\w+", re.UNICODE)
GRAM = 3


@dataclass(frozen=True, slots=True)
class Case(Record):
    """What to learn from: a prediction to make, its real outcome, and the event it is."""

    job: Job
    outcome: str
    event: str


@dataclass(frozen=True, slots=True)
class TraceOptions(Record):
    """How thoughts are drawn and which are kept.

    Thought about are the latest `cases` outcomes of a history, each after the `memories`
    interactions before it. `samples` thoughts of a case are drawn, at most `keep` of them are
    kept, the likeliest answers first. Of a thought's runs of three words at most the share `repeated` may be repeats. With
    `hint` a case that none solved is tried once more, the outcome shown.
    """

    cases: int = 24
    memories: int = 8
    samples: int = 4
    keep: int = 1
    budget: int = 384
    temperature: float = 0.8
    seed: int = 0
    repeated: float = 0.3
    hint: bool = False

    def __post_init__(self) -> None:
        for name in ("cases", "memories", "samples", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.samples > 1 and not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature}; {self.samples} samples need one above 0, or "
                "they are all the same"
            )
        if not 0 <= self.repeated <= 1:
            raise ValueError(f"repeated is {self.repeated}; it must be a share, 0 to 1")

    def thinking(self, sample: int) -> ThinkOptions:
        """Return how the sample of this number is drawn."""
        return ThinkOptions(
            budget=self.budget, temperature=self.temperature, seed=self.seed + sample
        )


@dataclass(frozen=True, slots=True)
class Trace(Record):
    """An example to train on: after `messages` comes `thought`, then `answer`.

    `cites` are the ids of the interactions and lines that the thought names, `shown` those of all
    interactions in the messages; `loglik` is the answer's log-probability given the thought, None
    where the engine cannot tell.
    """

    event: str
    messages: tuple[Message, ...]
    thought: str
    answer: str
    cites: tuple[str, ...]
    loglik: float | None
    rationalised: bool = False
    shown: tuple[str, ...] = ()

    @property
    def completion(self) -> str:
        """What follows the messages: the thought between its tags, and the answer."""
        return f"{ended(self.thought)}\n{self.answer}"


@dataclass(frozen=True, slots=True)
class Distilled(Record):
    """The traces of some cases, and how many thoughts were dropped for which reason."""

    traces: tuple[Trace, ...]
    cases: int
    thoughts: int
    dropped: dict[str, int]

    @classmethod
    def of_all(cls, several: Iterable[Distilled]) -> Distilled:
        """Return what came of several users' cases together."""
        every = list(several)
        dropped = sum((Counter(one.dropped) for one in every), Counter[str]())
        return cls(
            tuple(trace for one in every for trace in one.traces),
            sum(one.cases for one in every),
            sum(one.thoughts for one in every),
            dict(sorted(dropped.items())),
        )

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "none"
        head = f"{len(self.traces)} traces of {self.cases} cases, {self.thoughts} thoughts"
        return f"{head}; dropped: {why}"


def cases_from(
    history: Sequence[Interaction], task: Task, options: TraceOptions = TraceOptions()
) -> list[Case]:
    """Return the outcomes of a history in time order that are to be thought about.

    What happened at the moment of an outcome is not known before it; the first has no past, and is
    none. Nothing that an adapter may not see must be in `history`.
    """
    made: list[Case] = []
    for place in range(len(history) - 1, -1, -1):
        one = history[place]
        begin = place
        while begin and history[begin - 1].when >= one.when:
            begin -= 1
        if begin and is_labelled(one):
            known = tuple(history[max(0, begin - options.memories) : begin])
            made.append(Case(Job((), known, situation(one, task)), one.outcome or "", one.id))
        if len(made) == options.cases:
            break
    return made[::-1]


@dataclass(frozen=True, slots=True)
class _Try:
    """A thought about the case at a place, before and after its answer is known."""

    place: int
    thought: Thought
    options: ThinkOptions
    rationalised: bool = False


def distil(
    cases: Sequence[Case], task: Task, options: TraceOptions = TraceOptions()
) -> Program[Distilled]:
    """Return the thoughts that led the model to what the user really did.

    Two batches of model requests, thoughts and answers; two more where hints are given.
    """
    drawn = [
        (place, case, options.thinking(sample))
        for place, case in enumerate(cases)
        for sample in range(options.samples)
    ]
    asked = [thought_request(case.job, task, how) for _, case, how in drawn]
    replies = yield from complete(asked)
    tries = [
        _Try(place, read_thought(reply), how)
        for (place, _, how), reply in zip(drawn, replies, strict=True)
    ]
    kept, dropped = yield from _kept(tries, cases, task, options)
    solved = {place for place, _ in kept}
    rest = [place for place in range(len(cases)) if place not in solved] if options.hint else []
    if rest:
        how = options.thinking(options.samples)
        hinted = [
            thought_request(cases[place].job, task, how, hint=cases[place].outcome)
            for place in rest
        ]
        replies = yield from complete(hinted)
        again = [
            _Try(place, read_thought(reply), how, True)
            for place, reply in zip(rest, replies, strict=True)
        ]
        tries += again
        more, other = yield from _kept(again, cases, task, options)
        kept, dropped = kept + more, dropped + other
    return Distilled(
        _best(kept, options.keep), len(cases), len(tries), dict(sorted(dropped.items()))
    )


def problem(thought: Thought, case: Case, task: Task, options: TraceOptions) -> str | None:
    """Return why a thought is no example, whatever it led to; None if it may be one."""
    if not thought.text:
        return "empty"
    if not thought.whole:
        return "too long"
    if repetition(thought.text) > options.repeated:
        return "repetitive"
    if announces(thought.text, case.outcome, task):
        return "answer before reasons"
    if not cited(thought.text, case.job):
        return "no evidence"
    return None


def repetition(text: str, size: int = GRAM) -> float:
    """Return the share of runs of `size` words that came before; 0 for a text without one.

    >>> repetition("one two three four"), repetition("so so so so so so")
    (0.0, 0.75)
    """
    words = WORD.findall(text.casefold())
    runs = list(zip(*(words[i:] for i in range(size)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def announces(text: str, outcome: str, task: Task) -> bool:
    """Whether a thought says the outcome before it gives a reason: in its first words.

    >>> announces("Rating: 4, since they like it", "4", Task("t", outcome_label="Rating"))
    True
    >>> announces("They gave [2] a 4, and this is like it", "4", Task("t"))
    False
    """
    label = re.escape(task.outcome_label.casefold())
    begins = rf"\W*(?:(?:the|their|my|this|answer|{label}|is|will be|would be)\W+)*"
    return re.match(rf"{begins}{re.escape(outcome.casefold())}\b", text.casefold()) is not None


def cited(text: str, job: Job) -> tuple[str, ...]:
    """Return the ids of the interactions and persona lines that a thought names.

    A case is named by its number, `[2]`, or by two of the words that set it apart (all of them,
    if it has fewer): words that are neither common nor in the query, nor in half of what else is
    known. A line is named by its words. This is a test for having looked, not for being right.
    """
    cases = cases_of(job)
    texts = {one.id: f"{one.query} {one.outcome or ''}" for one in cases}
    texts |= {line.id: line.text for line in job.lines}
    own = {key: _words(value) for key, value in texts.items()}
    having = Counter(word for words in own.values() for word in words)
    most = max(1, len(own) // 2)
    asked = _words(job.situation.query)
    said = _words(text)
    numbers = {int(number) for number in NUMBER.findall(text)}
    named = {one.id for number, one in enumerate(cases, start=1) if number in numbers}
    for key, words in own.items():
        apart = {word for word in words if having[word] <= most} - asked
        if apart and len(apart & said) >= min(2, len(apart)):
            named.add(key)
    return tuple(key for key in texts if key in named)


def _words(text: str) -> set[str]:
    return {
        word for word in WORD.findall(text.casefold()) if len(word) > 2 and word not in COMMON_WORDS
    }


def _kept(
    tries: Sequence[_Try], cases: Sequence[Case], task: Task, options: TraceOptions
) -> Program[tuple[list[tuple[int, Trace]], Counter[str]]]:
    """Return the traces among some thoughts, with their cases' places, and why others are none."""
    dropped: Counter[str] = Counter()
    usable: list[_Try] = []
    for one in tries:
        why = problem(one.thought, cases[one.place], task, options)
        if why is None:
            usable.append(one)
        else:
            dropped[why] += 1
    requests = [
        after_thought(
            thought_request(cases[one.place].job, task, one.options),
            one.thought.text,
            cases[one.place].job,
            task,
        )
        for one in usable
    ]
    replies = yield from complete(requests)
    kept: list[tuple[int, Trace]] = []
    for one, reply in zip(usable, replies, strict=True):
        case = cases[one.place]
        prediction = read(case.job, task, reply)
        if not prediction.options:
            prediction = replace(prediction, text=without_thought(prediction.text))
        if prediction.error is not None:
            dropped["no answer"] += 1
        elif not _leads(prediction, case, task):
            dropped["wrong"] += 1
        else:
            kept.append((one.place, _trace(one, case, task, prediction)))
    return kept, dropped


def _leads(prediction: Prediction, case: Case, task: Task) -> bool:
    """Whether a prediction is the outcome; of a rating, the likeliest one, not the mean."""
    if prediction.options:
        return prediction.text == case.outcome
    return is_right(task, score(task, prediction, case.outcome))


def _trace(one: _Try, case: Case, task: Task, prediction: Prediction) -> Trace:
    return Trace(
        case.event,
        thought_messages(case.job, task, one.options),
        one.thought.text,
        f"{task.outcome_label}: {case.outcome}",
        cited(one.thought.text, case.job),
        prediction.loglik(case.outcome),
        one.rationalised,
        tuple(known.id for known in case.job.memories),
    )


def _best(kept: Sequence[tuple[int, Trace]], most: int) -> tuple[Trace, ...]:
    """Return the best traces of each case, the likeliest answers first, each thought once."""
    by_case: dict[int, dict[str, Trace]] = {}
    for place, trace in kept:
        by_case.setdefault(place, {}).setdefault(trace.thought, trace)
    best: list[Trace] = []
    for place in sorted(by_case):
        ranked = sorted(by_case[place].values(), key=lambda one: -(one.loglik or 0.0))
        best += ranked[:most]
    return tuple(best)

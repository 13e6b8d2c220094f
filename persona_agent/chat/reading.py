"""What an answer means: exact words first, else what a model finds likeliest.

The model chooses among four meanings, few-shot; their log-probabilities are divided by what it
says of answers without content (contextual calibration, Zhao et al. 2021), without which a small
model mostly repeats its favourite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.chat.state import MEANINGS, Meaning
from persona_agent.chat.words import Lexicon, Quick
from persona_agent.program import Program, complete
from persona_agent.types import Message, ModelReply, ModelRequest, Record, Sampling

By: TypeAlias = Literal["words", "model", "nobody"]

CONTENT_FREE = ("N/A", "...", "[the answer]", "blank")
MAX_ANSWER_CHARS = 300


@dataclass(frozen=True, slots=True)
class Asked(Record):
    """A question, and the answer to be read."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Reading(Record):
    """What an answer means, who says so, and how likely it is to them.

    `rest` is what was said after the words that decided. `problem` says why the model could not
    be used; the meaning is "other" then.
    """

    meaning: Meaning
    by: By = "model"
    probability: float = 1.0
    rest: str = ""
    problem: str | None = None


def read(
    asked: Sequence[Asked], lexicon: Lexicon | None, *, calibrated: bool = True
) -> Program[list[Reading]]:
    """Return what each answer means; those of exact words cost no model request.

    Without a `lexicon` the model reads all. All requests are one batch; calibration adds four
    for each question that differs.
    """
    quick: list[Quick | None] = [
        lexicon.quick(one.answer) if lexicon is not None else None for one in asked
    ]
    left = [one for one, found in zip(asked, quick, strict=True) if found is None]
    questions = list(dict.fromkeys(one.question for one in left)) if calibrated else []
    free = [Asked(question, text) for question in questions for text in CONTENT_FREE]
    replies: list[ModelReply] = []
    if left:
        replies = yield from complete([_request(one) for one in [*left, *free]])
    bases = {
        question: replies[len(left) + at * len(CONTENT_FREE) :][: len(CONTENT_FREE)]
        for at, question in enumerate(questions)
    }
    by_model = iter(
        [
            _reading(reply, bases.get(one.question, ()))
            for one, reply in zip(left, replies, strict=False)
        ]
    )
    return [
        next(by_model) if found is None else Reading(found.meaning, "words", rest=found.rest)
        for found in quick
    ]


def _request(one: Asked) -> ModelRequest:
    query = prompts.text(
        "answer",
        "query",
        question=prompts.as_data(one.question, MAX_ANSWER_CHARS),
        answer=prompts.as_data(one.answer, MAX_ANSWER_CHARS),
    )
    return ModelRequest(
        messages=(
            Message("system", prompts.text("answer", "policy")),
            Message("user", f"{prompts.text('answer', 'examples')}\n\n{query}"),
        ),
        sampling=Sampling(max_tokens=4, stop=("\n",)),
        choices=MEANINGS,
        template=False,
        purpose="read",
    )


def _reading(reply: ModelReply, bases: Sequence[ModelReply]) -> Reading:
    if reply.error is not None:
        return Reading("other", "nobody", 0.0, problem=f"the model did not answer: {reply.error}")
    if reply.logprobs is None:
        if reply.text not in MEANINGS:
            problem = f"the model answered {reply.text[:40]!r}, which is no meaning"
            return Reading("other", "nobody", 0.0, problem=problem)
        return Reading(reply.text)
    usual = [base.logprobs for base in bases if base.logprobs is not None]
    means = (
        [math.fsum(row[i] for row in usual) / len(usual) for i in range(4)] if usual else [0.0] * 4
    )
    chances = _softmax([own - mean for own, mean in zip(reply.logprobs, means, strict=True)])
    best = max(range(len(MEANINGS)), key=lambda i: (chances[i], -i))
    return Reading(MEANINGS[best], probability=chances[best])


def _softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return [weight / math.fsum(weights) for weight in weights]

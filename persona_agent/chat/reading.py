"""What an answer means: exact words first, else what a model and the nearest examples agree on.

The model chooses among four meanings, few-shot; their log-probabilities are divided by what it
says of answers without content (contextual calibration, Zhao et al. 2021), without which a small
model mostly repeats its favourite. The embedder says which of the same examples the answer is most
like. The two are multiplied, the examples with weight 1/2: they err on different answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.chat import likeness
from persona_agent.chat.state import MEANINGS, Meaning
from persona_agent.chat.words import Lexicon, Quick
from persona_agent.program import Program
from persona_agent.types import (
    Message,
    ModelReply,
    ModelRequest,
    Record,
    Request,
    Sampling,
    Scope,
    ToolReply,
)

By: TypeAlias = Literal["words", "model", "nobody"]

CONTENT_FREE = ("N/A", "...", "[the answer]", "blank")
MAX_ANSWER_CHARS = 300
NO_OPINION = (0.0,) * len(MEANINGS)
EXAMPLES = 0.5  # the weight of the nearest examples beside the model; chosen on the dev answers


@dataclass(frozen=True, slots=True)
class Asked(Record):
    """A question, and the answer to be read."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Reading(Record):
    """What an answer means, who says so, and how likely it is to them.

    `rest` is what was said after the words that decided. `problem` says what could not be used;
    if that is the model, the meaning is "other".
    """

    meaning: Meaning
    by: By = "model"
    probability: float = 1.0
    rest: str = ""
    problem: str | None = None


def read(
    scope: Scope,
    asked: Sequence[Asked],
    lexicon: Lexicon | None,
    *,
    calibrated: bool = True,
    examples: bool = True,
) -> Program[list[Reading]]:
    """Return what each answer means; those of exact words cost no request.

    Without a `lexicon` the model reads all. All requests are one batch; calibration adds four
    for each question that differs, `examples` one call of the tool `likeness`.
    """
    quick: list[Quick | None] = [
        lexicon.quick(one.answer) if lexicon is not None else None for one in asked
    ]
    left = [one for one, found in zip(asked, quick, strict=True) if found is None]
    by_model: list[Reading] = []
    if left:
        by_model = yield from _modelled(scope, left, calibrated, examples)
    following = iter(by_model)
    return [
        next(following) if found is None else Reading(found.meaning, "words", rest=found.rest)
        for found in quick
    ]


def _modelled(
    scope: Scope, left: Sequence[Asked], calibrated: bool, examples: bool
) -> Program[list[Reading]]:
    questions = list(dict.fromkeys(one.question for one in left)) if calibrated else []
    free = [Asked(question, text) for question in questions for text in CONTENT_FREE]
    requests: list[Request] = [_request(one) for one in [*left, *free]]
    if examples:
        requests.append(likeness.ask(scope, [one.answer for one in left]))
    served = yield requests
    replies = [one for one in served if isinstance(one, ModelReply)]
    (told,) = [one for one in served if isinstance(one, ToolReply)] or [ToolReply()]
    problem = None if told.error is None else f"no examples were compared: {told.error}"
    likes: list[Sequence[float]] = json.loads(told.text) if told.text else [NO_OPINION] * len(left)
    bases = {
        question: replies[len(left) + at * len(CONTENT_FREE) :][: len(CONTENT_FREE)]
        for at, question in enumerate(questions)
    }
    return [
        _reading(reply, bases.get(one.question, ()), like, problem)
        for one, reply, like in zip(left, replies, likes, strict=False)
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


def _reading(
    reply: ModelReply, bases: Sequence[ModelReply], like: Sequence[float], problem: str | None
) -> Reading:
    if reply.error is not None:
        return Reading("other", "nobody", 0.0, problem=f"the model did not answer: {reply.error}")
    if reply.logprobs is None:
        if reply.text not in MEANINGS:
            wrong = f"the model answered {reply.text[:40]!r}, which is no meaning"
            return Reading("other", "nobody", 0.0, problem=wrong)
        return Reading(reply.text, problem=problem)
    usual = [base.logprobs for base in bases if base.logprobs is not None] or [NO_OPINION]
    means = [math.fsum(row[i] for row in usual) / len(usual) for i in range(len(MEANINGS))]
    chances = _softmax(
        [
            own - mean + EXAMPLES * other
            for own, mean, other in zip(reply.logprobs, means, like, strict=True)
        ]
    )
    best = max(range(len(MEANINGS)), key=lambda i: (chances[i], -i))
    return Reading(MEANINGS[best], probability=chances[best], problem=problem)


def _softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return [weight / math.fsum(weights) for weight in weights]

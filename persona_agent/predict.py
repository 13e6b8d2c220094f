"""Predicting what a user does: few-shot from memory, options scored by their likelihood.

The prompt is laid out for prefix caching: policy, persona, memories, query. It is plain text, so
that a model continues the pattern; where the engine gives log-probabilities every option is
scored whole, all its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.persona import PersonaLine, render
from persona_agent.program import Program, complete, recall
from persona_agent.task import Prediction, Situation, Task, is_labelled
from persona_agent.types import (
    Interaction,
    Message,
    ModelReply,
    ModelRequest,
    RecallRequest,
    Record,
    Sampling,
    Scope,
)

Calibration: TypeAlias = Literal["none", "contextual", "domain"]

MAX_QUERY_CHARS = 600


@dataclass(frozen=True, slots=True)
class RecallPlan(Record):
    """How many memories a prompt gets: the latest, the most similar, and their length in tokens.

    `hybrid` are those most like the query by meaning and by words.
    """

    recent: int = 8
    similar: int = 0
    max_tokens: int = 1024
    hybrid: int = 0

    def requests(self, scope: Scope, query: str, before: str | None) -> list[RecallRequest]:
        """Return the recalls this plan makes; none for a plan of nothing."""
        requests = []
        if self.recent:
            requests.append(
                RecallRequest(
                    scope, "recent", k=self.recent, max_tokens=self.max_tokens, before=before
                )
            )
        if self.similar:
            requests.append(
                RecallRequest(scope, "similar", query, self.similar, self.max_tokens, before)
            )
        if self.hybrid:
            requests.append(
                RecallRequest(scope, "hybrid", query, self.hybrid, self.max_tokens, before)
            )
        return requests


@dataclass(frozen=True, slots=True)
class Job(Record):
    """One prediction to make: who is known how, what is remembered, and the situation."""

    lines: tuple[PersonaLine, ...]
    memories: tuple[Interaction, ...]
    situation: Situation


def remember(
    scope: Scope, plan: RecallPlan, block: Sequence[Situation], before: str | None
) -> Program[list[tuple[Interaction, ...]]]:
    """Return the memories for each situation of a block that begins at interaction `before`.

    Only what is earlier than the whole block is recalled. The latest are the same for all, so
    that a block shares its prompt's prefix; the similar differ with the query. Time order.
    """
    shared = plan.requests(scope, "", before)[:1] if plan.recent else []
    own = [
        request
        for one in block
        for request in plan.requests(scope, one.query, before)[len(shared) :]
    ]
    replies = yield from recall([*shared, *own])
    latest = [hit.interaction for reply in replies[: len(shared)] for hit in reply.memories]
    similar = [[hit.interaction for hit in reply.memories] for reply in replies[len(shared) :]]
    return [_in_time(latest + found) for found in similar or [[]] * len(block)]


def _in_time(memories: list[Interaction]) -> tuple[Interaction, ...]:
    unique = {one.id: one for one in memories}
    return tuple(sorted(unique.values(), key=lambda one: one.when))


def predict(
    jobs: Sequence[Job], task: Task, *, calibration: Calibration = "none"
) -> Program[list[Prediction]]:
    """Return a prediction for each job, all of them in one batch of model requests.

    `calibration` corrects for what the model says of any query: "contextual" divides by each
    option's probability for a content-free query after the same persona and memories (Zhao et al.
    2021); "domain" by its probability with the query but nobody known (Holtzman et al. 2021,
    domain-conditional PMI). Both need log-probabilities, and double the requests.
    """
    requests = [request_of(job, task) for job in jobs]
    bases = []
    if calibration == "contextual":
        empty = [Job(j.lines, j.memories, Situation("N/A", j.situation.options)) for j in jobs]
        bases = [request_of(job, task) for job in empty]
    elif calibration == "domain":
        bases = [request_of(Job((), (), job.situation), task) for job in jobs]
    asked = [*requests, *(base for base in bases if base.choices)]
    replies = yield from complete(asked)
    corrections = iter(replies[len(requests) :])
    predictions = []
    for job, request, reply in zip(jobs, requests, replies[: len(requests)], strict=True):
        base = next(corrections) if bases and request.choices else None
        predictions.append(read(job, task, reply, base))
    return predictions


def request_of(job: Job, task: Task) -> ModelRequest:
    """Return the model request of one prediction; the outcome is nowhere in it."""
    options = job.situation.options
    return ModelRequest(
        messages=(
            Message("system", _policy(task, job)),
            Message("user", _evidence(task, job)),
        ),
        sampling=Sampling(max_tokens=task.max_tokens, stop=("\n",)),
        choices=options,
        template=False,
        purpose="predict",
    )


def likelihood_request(job: Job, task: Task, outcome: str) -> ModelRequest:
    """Return the request that asks how likely a free-text outcome is; the prompt lacks it."""
    request = request_of(job, task)
    return ModelRequest(
        request.messages, request.sampling, None, (outcome,), template=False, purpose="likelihood"
    )


def read(job: Job, task: Task, reply: ModelReply, base: ModelReply | None = None) -> Prediction:
    """Return the prediction in a reply, corrected by the reply to its content-free twin."""
    options = job.situation.options
    if reply.error is not None:
        return Prediction("", options, error=reply.error)
    if not options:
        return Prediction(reply.text.strip())
    if reply.logprobs is None:
        if reply.text in options:
            expected = float(reply.text) if task.numeric else None
            return Prediction(reply.text, options, expected=expected)
        return Prediction("", options, error=f"{reply.text[:80]!r} is none of the options")
    raw = list(reply.logprobs)
    if base is not None and base.logprobs is not None:
        raw = [value - other for value, other in zip(raw, base.logprobs, strict=True)]
    logprobs = log_softmax(raw)
    best = max(range(len(options)), key=lambda i: (logprobs[i], -i))
    expected = None
    if task.numeric:
        pairs = zip(logprobs, options, strict=True)
        expected = sum(math.exp(p) * float(option) for p, option in pairs)
    return Prediction(options[best], options, tuple(logprobs), expected)


def log_softmax(values: Sequence[float]) -> list[float]:
    """Return `values` shifted so that their exponentials sum to 1.

    >>> [round(v, 3) for v in log_softmax([0.0, 0.0])]
    [-0.693, -0.693]
    """
    top = max(values)
    total = top + math.log(math.fsum(math.exp(value - top) for value in values))
    return [value - total for value in values]


def _policy(task: Task, job: Job) -> str:
    if task.numeric:
        policy = prompts.text(
            "predict",
            "rating",
            outcome_label=task.outcome_label.lower(),
            low=task.options[0],
            high=task.options[-1],
        )
    elif job.situation.options:
        policy = prompts.text("predict", "choice", outcome_label=task.outcome_label.lower())
    else:
        policy = prompts.text("predict", "words")
    known = prompts.text("predict", "persona", lines=render(job.lines)) if job.lines else ""
    return "\n\n".join(part for part in (policy, known) if part)


def _evidence(task: Task, job: Job) -> str:
    examples = [_example(task, one) for one in job.memories if is_labelled(one)]
    asked = prompts.text(
        "predict",
        "query",
        query_label=task.query_label,
        outcome_label=task.outcome_label,
        query=_shown(task, job.situation.query, job.situation.options),
    )
    return "\n\n".join([*examples, asked])


def _example(task: Task, one: Interaction) -> str:
    """Return a remembered interaction as an example, under its own names where it has them."""
    return prompts.text(
        "predict",
        "example",
        query_label=_label(one, "query_label", task.query_label),
        outcome_label=_label(one, "outcome_label", task.outcome_label),
        query=_shown(task, one.query, one.options),
        outcome=prompts.as_data(one.outcome or ""),
    )


def _label(one: Interaction, key: str, default: str) -> str:
    label = one.metadata.get(key)
    return prompts.as_data(label, 40) if isinstance(label, str) and label else default


def _shown(task: Task, query: str, options: Sequence[str]) -> str:
    plain = prompts.as_data(query, MAX_QUERY_CHARS)
    if task.numeric or not options or tuple(options) == task.options:
        return plain
    listed = "; ".join(prompts.as_data(option, 120) for option in options)
    return prompts.text("predict", "options", query=plain, options=listed)

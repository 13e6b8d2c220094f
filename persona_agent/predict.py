"""Predicting what a user does: few-shot from memory, options scored by their likelihood.

The prompt is laid out for prefix caching: policy, persona, memories, query. It is plain text, so
that a model continues the pattern; where the engine gives log-probabilities every option is
scored whole, all its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    if not own:
        return [_in_time(latest)] * len(block)
    similar = [[hit.interaction for hit in reply.memories] for reply in replies[len(shared) :]]
    return [_in_time(latest + found) for found in similar]


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
    requests = requests_of(jobs, task)
    bases = []
    if calibration == "contextual":
        empty = [Job(j.lines, j.memories, Situation("N/A", j.situation.options)) for j in jobs]
        bases = requests_of(empty, task)
    elif calibration == "domain":
        bases = requests_of([Job((), (), job.situation) for job in jobs], task)
    replies = yield from complete([*requests, *bases])
    made = [read(job, task, reply) for job, reply in zip(jobs, replies, strict=False)]
    if not bases:
        return made
    corrections = [
        read(job, task, reply) for job, reply in zip(jobs, replies[len(jobs) :], strict=True)
    ]
    return [relative(one, base, task) for one, base in zip(made, corrections, strict=True)]


def requests_of(jobs: Sequence[Job], task: Task) -> list[ModelRequest]:
    """Return the model request of each prediction; the outcome is nowhere in it."""
    personas: dict[int, str] = {}  # jobs that share persona or memories share their text
    examples: dict[int, str] = {}
    requests = []
    for job in jobs:
        if id(job.lines) not in personas:
            personas[id(job.lines)] = _persona(job.lines)
        if id(job.memories) not in examples:
            examples[id(job.memories)] = _examples(task, job.memories)
        requests.append(_request(job, task, personas[id(job.lines)], examples[id(job.memories)]))
    return requests


def likelihood_requests(
    jobs: Sequence[Job], task: Task, outcomes: Sequence[str]
) -> list[ModelRequest]:
    """Return the requests that ask how likely free-text outcomes are; the prompts lack them."""
    return [
        replace(request, choices=(outcome,), purpose="likelihood")
        for request, outcome in zip(requests_of(jobs, task), outcomes, strict=True)
    ]


def _request(job: Job, task: Task, persona: str, examples: str) -> ModelRequest:
    return ModelRequest(
        messages=(
            Message("system", _joined(policy(task, job.situation), persona)),
            Message("user", _joined(examples, _question(task, job.situation))),
        ),
        sampling=Sampling(max_tokens=task.max_tokens, stop=("\n",)),
        choices=job.situation.options,
        template=False,
        purpose="predict",
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def read(job: Job, task: Task, reply: ModelReply) -> Prediction:
    """Return the prediction in a reply; what cannot be used is a prediction with an error."""
    options = job.situation.options
    if reply.error is not None:
        return Prediction("", options, error=reply.error)
    if not options:
        return Prediction(reply.text.strip())
    if reply.logprobs is not None:
        return _weighed(options, reply.logprobs, task)
    if reply.text not in options:
        return Prediction("", options, error=f"{reply.text[:80]!r} is none of the options")
    return Prediction(reply.text, options, expected=float(reply.text) if task.numeric else None)


def relative(prediction: Prediction, base: Prediction, task: Task) -> Prediction:
    """Return a prediction divided by what a model says anyway, its prediction `base`.

    Without log-probabilities there is nothing to divide: it is returned as it is. If only `base`
    failed, so does the result: a prediction that was to be corrected and is not would mislead.
    """
    if prediction.error is None and base.error is not None:
        return replace(prediction, error=f"the correction failed: {base.error}")
    if prediction.logprobs is None or base.logprobs is None:
        return prediction
    ratios = [a - b for a, b in zip(prediction.logprobs, base.logprobs, strict=True)]
    return _weighed(prediction.options, ratios, task)


def _weighed(options: tuple[str, ...], weights: Sequence[float], task: Task) -> Prediction:
    """Return the prediction of options with these log-weights; of equals, the first."""
    logprobs = log_softmax(weights)
    best = max(range(len(options)), key=lambda i: (logprobs[i], -i))
    expected = None
    if task.numeric:
        pairs = zip(logprobs, options, strict=True)
        expected = math.fsum(math.exp(p) * float(option) for p, option in pairs)
    return Prediction(options[best], options, tuple(logprobs), expected)


def log_softmax(values: Sequence[float]) -> list[float]:
    """Return `values` shifted so that their exponentials sum to 1.

    >>> [round(v, 3) for v in log_softmax([0.0, 0.0])]
    [-0.693, -0.693]
    """
    top = max(values)
    total = top + math.log(math.fsum(math.exp(value - top) for value in values))
    return [value - total for value in values]


def policy(task: Task, asked: Situation) -> str:
    """Return what is asked of the model, in one line."""
    label = task.outcome_label.lower()
    if task.numeric:
        return prompts.text(
            "predict", "rating", outcome_label=label, low=task.options[0], high=task.options[-1]
        )
    if asked.options:
        return prompts.text("predict", "choice", outcome_label=label)
    return prompts.text("predict", "words")


def _persona(lines: tuple[PersonaLine, ...]) -> str:
    return prompts.text("predict", "persona", lines=render(lines)) if lines else ""


def _examples(task: Task, memories: tuple[Interaction, ...]) -> str:
    return _joined(*(_example(task, one) for one in memories if is_labelled(one)))


def _question(task: Task, asked: Situation) -> str:
    return prompts.text(
        "predict",
        "query",
        query_label=task.query_label,
        outcome_label=task.outcome_label,
        query=shown(task, asked.query, asked.options),
    )


def _example(task: Task, one: Interaction) -> str:
    """Return a remembered interaction as an example, under its own names where it has them."""
    return prompts.text(
        "predict",
        "example",
        query_label=label_of(one, "query_label", task.query_label),
        outcome_label=label_of(one, "outcome_label", task.outcome_label),
        query=shown(task, one.query, one.options),
        outcome=prompts.as_data(one.outcome or ""),
    )


def label_of(one: Interaction, key: str, default: str) -> str:
    """Return the name an interaction gives under `key` of its metadata, else the task's."""
    label = one.metadata.get(key)
    return prompts.as_data(label, 40) if isinstance(label, str) and label else default


def shown(task: Task, query: str, options: Sequence[str]) -> str:
    """Return a query as it stands in a prompt, with its options where the task does not say them."""
    plain = prompts.as_data(query, MAX_QUERY_CHARS)
    if task.numeric or tuple(options) == task.options or all(one in query for one in options):
        return plain
    listed = "; ".join(prompts.as_data(option, 120) for option in options)
    return prompts.text("predict", "options", query=plain, options=listed)

"""Thinking before answering: about this person, within a budget, and never in the answer.

A thought is asked for first, as a beginning that the model continues up to a closing tag; then
the answer is asked for after it, options by their likelihood given the thought. A thought that
does not end within its budget is not an argument: the answer is then the direct one, or the one
after what was thought so far.

Source: PRIME (Zhang, Beauchamp and Wang 2025), personalised thinking, of which no prompt or code
is published; the generic style is chain of thought (Wei et al. 2022). Cutting a thought off and
answering after it is budget forcing (Muennighoff et al. 2025).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.errors import BackendError
from persona_agent.predict import MAX_QUERY_CHARS, Job, label_of, policy, read, requests_of, shown
from persona_agent.program import Program, complete
from persona_agent.task import Prediction, Task, is_labelled
from persona_agent.types import (
    Interaction,
    Message,
    ModelReply,
    ModelRequest,
    Record,
    Sampling,
    Usage,
)

Style: TypeAlias = Literal["personal", "generic"]
Overrun: TypeAlias = Literal["direct", "cut"]

WORDS_PER_TOKEN = 0.6  # what a model is told is shorter than what it is given
OPENED = re.compile(r"\A\s*<think>\s*", re.IGNORECASE)
BLOCK = re.compile(r"<think>[\s\S]*?(?:</think>|\Z)", re.IGNORECASE)
END = "</think>"


@dataclass(frozen=True, slots=True)
class ThinkOptions(Record):
    """How a model thinks before it answers.

    `personal` thoughts are about the person and name the cases they rest on; `generic` ones go
    step by step. A thought has `budget` tokens; if it runs over, the answer is the `direct` one,
    without it, or it is `cut` and the answer follows what there is.
    """

    style: Style = "personal"
    budget: int = 256
    overrun: Overrun = "direct"
    temperature: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.style not in ("personal", "generic"):
            raise ValueError(f"style is {self.style!r}; it must be personal or generic")
        if self.overrun not in ("direct", "cut"):
            raise ValueError(f"overrun is {self.overrun!r}; it must be direct or cut")
        if self.budget < 8:
            raise ValueError(f"budget is {self.budget} tokens; a thought needs at least 8")

    @property
    def sampling(self) -> Sampling:
        """How a thought is drawn."""
        return Sampling(self.budget, self.temperature, stop=(END,), seed=self.seed)

    @property
    def words(self) -> str:
        """The budget as the model is told it."""
        return str(int(self.budget * WORDS_PER_TOKEN))


@dataclass(frozen=True, slots=True)
class Thought(Record):
    """What a model thought; `whole` if it ended by itself, within its budget."""

    text: str
    whole: bool
    usage: Usage = Usage()

    @property
    def usable(self) -> bool:
        """Whether there is a thought, and all of it."""
        return self.whole and bool(self.text)


@dataclass(frozen=True, slots=True)
class Considered(Record):
    """A prediction, and the thought it follows; None where it was made without one."""

    prediction: Prediction
    thought: Thought
    follows: bool


@dataclass(frozen=True, slots=True)
class Said(Record):
    """A text that was thought about first; `thought` is empty where the answer is a direct one."""

    text: str
    thought: str
    usage: Usage


def think(
    jobs: Sequence[Job], task: Task, options: ThinkOptions = ThinkOptions()
) -> Program[list[Considered]]:
    """Return a prediction for each job, made after a thought about it.

    Two batches of model requests: the thoughts, then the answers, of which those to thoughts that
    ran over are the same requests that `predict` makes, unless such thoughts are cut. A thought
    that failed is one that ran over.
    """
    asked = [thought_request(job, task, options) for job in jobs]
    thoughts = [read_thought(reply) for reply in (yield from complete(asked))]
    direct = requests_of(jobs, task)
    follows = [
        thought.usable or (options.overrun == "cut" and bool(thought.text)) for thought in thoughts
    ]
    requests = [
        after_thought(question, thought.text, job, task) if used else plain
        for question, thought, job, used, plain in zip(
            asked, thoughts, jobs, follows, direct, strict=True
        )
    ]
    replies = yield from complete(requests)
    return [
        Considered(_stripped(read(job, task, reply)), thought, used)
        for job, reply, thought, used in zip(jobs, replies, thoughts, follows, strict=True)
    ]


def deliberate(
    messages: tuple[Message, ...], sampling: Sampling, options: ThinkOptions = ThinkOptions()
) -> Program[Said]:
    """Return what a model says to a chat after a thought, without the thought.

    Raises BackendError if the model cannot answer.
    """
    before = prompts.text("think", "before", limit=options.words)
    last = messages[-1]
    told = (*messages[:-1], replace(last, content=f"{last.content}\n\n{before}"))
    begun = Message("assistant", prompts.text("think", "begun") + "\n")
    request = ModelRequest((*told, begun), options.sampling, purpose="think")
    thought = read_thought((yield from complete([request]))[0])
    follows = thought.usable or (options.overrun == "cut" and bool(thought.text))
    asked = (*told, Message("assistant", ended(thought.text) + "\n")) if follows else messages
    reply = (yield from complete([ModelRequest(asked, sampling, purpose="answer")]))[0]
    if reply.error is not None:
        raise BackendError(f"the model could not answer: {reply.error}")
    text = without_thought(reply.text)
    return Said(text, thought.text if follows else "", thought.usage + reply.usage)


def thought_request(
    job: Job, task: Task, options: ThinkOptions, hint: str | None = None
) -> ModelRequest:
    """Return the request for a thought about a job; `hint` tells the outcome, see `distil`."""
    begun = Message("assistant", prompts.text("think", "begun") + "\n")
    messages = (*thought_messages(job, task, options, hint), begun)
    return ModelRequest(messages, options.sampling, purpose="think")


def thought_messages(
    job: Job, task: Task, options: ThinkOptions, hint: str | None = None
) -> tuple[Message, ...]:
    """Return the chat that asks for a thought and an answer; the outcome is nowhere in it."""
    known = [prompts.text("think", "line", text=line.text) for line in job.lines]
    known += [_case(number, task, one) for number, one in enumerate(cases_of(job), start=1)]
    question = prompts.text(
        "think",
        "question",
        query_label=task.query_label,
        query=shown(task, job.situation.query, job.situation.options),
        task=policy(task, job.situation),
    )
    parts = [prompts.text("think", "known", lines="\n".join(known))] if known else []
    parts.append(question)
    if hint is not None:
        parts.append(prompts.text("think", "hint", outcome=prompts.as_data(hint, 300)))
    policy_text = prompts.text("think", options.style, limit=options.words)
    return Message("system", policy_text), Message("user", "\n\n".join(parts))


def cases_of(job: Job) -> list[Interaction]:
    """Return the memories that a thought may name by their numbers, from 1."""
    return [one for one in job.memories if is_labelled(one)]


def after_thought(question: ModelRequest, thought: str, job: Job, task: Task) -> ModelRequest:
    """Return the request for the answer that follows a thought: the same chat, and the thought."""
    begun = f"{ended(thought)}\n{prompts.text('think', 'said', outcome_label=task.outcome_label)}"
    return replace(
        question,
        messages=(*question.messages[:-1], Message("assistant", begun)),
        sampling=Sampling(max_tokens=task.max_tokens, stop=("\n",)),
        choices=job.situation.options,
        purpose="predict",
    )


def ended(thought: str) -> str:
    """Return a thought between its tags, as the answer follows it."""
    return prompts.text("think", "ended", thought=thought)


def read_thought(reply: ModelReply) -> Thought:
    """Return the thought in a reply; one that failed is empty and not whole."""
    if reply.error is not None:
        return Thought("", False, reply.usage)
    text, end, _ = OPENED.sub("", reply.text).partition(END)
    return Thought(text.strip(), bool(end) or reply.finish == "stop", reply.usage)


def without_thought(text: str) -> str:
    """Return an answer without the thoughts that a model put into it.

    >>> without_thought("<think>They like tea.</think> Tea.")
    'Tea.'
    >>> without_thought("They like tea.</think> Tea.")
    'Tea.'
    """
    return BLOCK.sub("", text).rpartition(END)[2].strip()


def _stripped(prediction: Prediction) -> Prediction:
    if prediction.options:
        return prediction
    return replace(prediction, text=without_thought(prediction.text))


def _case(number: int, task: Task, one: Interaction) -> str:
    return prompts.text(
        "think",
        "case",
        number=str(number),
        query_label=label_of(one, "query_label", task.query_label),
        query=prompts.as_data(one.query, MAX_QUERY_CHARS),
        outcome_label=label_of(one, "outcome_label", task.outcome_label),
        outcome=prompts.as_data(one.outcome or "", 300),
    )

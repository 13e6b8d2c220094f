"""Proposers: where candidate personas come from.

A proposer is a callable that takes what is known before the gate and returns a program that
returns drafts. The gate does not care who proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from persona_agent import prompts
from persona_agent.lines import lines_schema, texts_of
from persona_agent.mine import Finding, mine
from persona_agent.persona import MAX_LINES, PersonaLine, clean_lines, render
from persona_agent.program import Program, complete
from persona_agent.task import Prediction, Task
from persona_agent.types import (
    Interaction,
    ModelRequest,
    Record,
    Sampling,
    Scope,
)

SUMMARY_LINES = 3
REWRITE_LINES = 12
SUMMARY_EVENTS = 12


@dataclass(frozen=True, slots=True)
class Simulation(Record):
    """A recent interaction and what the agent predicted of it."""

    interaction: Interaction
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Situated(Record):
    """What a proposer may know: the persona, and the history up to this round's recent block.

    `simulate` returns a program that predicts the recent block, in one batch; a proposer that
    does not learn from mistakes need not pay for it.
    """

    scope: Scope
    lines: tuple[PersonaLine, ...]
    locked: tuple[PersonaLine, ...]
    history: tuple[Interaction, ...]
    recent: tuple[Interaction, ...]
    simulate: Callable[[], Program[tuple[Simulation, ...]]]
    task: Task
    round: int
    seed: int


@dataclass(frozen=True, slots=True)
class Draft(Record):
    """A candidate persona: its lines, who proposed it, and what it changes, in words."""

    lines: tuple[PersonaLine, ...]
    proposer: str
    note: str


class Proposer(Protocol):
    """Proposes candidate personas."""

    def __call__(self, situated: Situated) -> Program[list[Draft]]:
        """Return a program that returns drafts, none if it has nothing to propose."""
        ...


def start_lines(history: Sequence[Interaction], task: Task) -> list[PersonaLine]:
    """Return the lines a persona starts from: the user's own statistics, no model needed."""
    return [one.line("statistics") for one in mine(history, task) if one.kind == "statistics"]


def summarise(
    scope: Scope, history: Sequence[Interaction], task: Task
) -> Program[list[PersonaLine]]:
    """Return a model's summary of the history as at most three lines, evidence attached.

    What the model writes that cannot be a line is left out; a model that fails gives none.
    """
    latest = [one for one in history if one.role == "user"][-SUMMARY_EVENTS:]
    if not latest:
        return []
    shown = "\n".join(f"- {_event(one, task)}" for one in latest)
    messages = prompts.messages("summary", history=shown, count=str(SUMMARY_LINES))
    request = ModelRequest(
        messages,
        Sampling(max_tokens=120),
        schema=lines_schema(SUMMARY_LINES),
        purpose="summary",
    )
    reply = (yield from complete([request]))[0]
    lines, _ = clean_lines(texts_of(reply)[:SUMMARY_LINES], "summary", [one.id for one in latest])
    return lines


def miner(situated: Situated) -> Program[list[Draft]]:
    """Propose lines from what sets the user apart; needs no model.

    In the first round: the strongest tastes and drifts, few and many, and the persona without
    what a model wrote into it. Later: findings one by one, and each of the last lines that is
    neither locked nor the user's own dropped.
    """
    yield from ()
    known = {line.id for line in situated.lines}
    found = [one for one in mine(situated.history, situated.task) if one.kind != "statistics"]
    new = [one for one in found if one.line().id not in known]
    if situated.round:
        return [*(_added(situated, [one]) for one in new[:3]), *_pruned(situated)]
    drifts = [one for one in new if one.kind == "drift"]
    others = [one for one in new if one.kind != "drift"]
    picks = [[*others[:3], *drifts[:1]], [*others[:8], *drifts[:2]]]
    drafts = [_added(situated, pick) for pick in picks if pick]
    own = tuple(line for line in situated.lines if line.origin not in ("summary", "gradient"))
    if len(own) < len(situated.lines):
        drafts.append(Draft(own, "miner", "drops what a model wrote"))
    return drafts


def _added(situated: Situated, findings: Sequence[Finding]) -> Draft:
    lines = (*situated.lines, *(one.line() for one in findings))
    return Draft(lines, "miner", "adds " + "; ".join(one.text for one in findings))


def _pruned(situated: Situated) -> list[Draft]:
    locked = {line.id for line in situated.locked}
    spare = [line for line in situated.lines if line.id not in locked and line.origin != "user"]
    return [
        Draft(
            tuple(other for other in situated.lines if other.id != line.id),
            "miner",
            f"drops {line.text}",
        )
        for line in spare[-2:]
    ]


def textual_gradient(situated: Situated) -> Program[list[Draft]]:
    """Propose a rewrite from the model's critique of its own predictions.

    PersonaAgent's textual loss and gradient update (Zhang et al. 2025, section 3.3): one critique
    a simulated interaction, in one batch, then one rewrite. Only the user's own turns take part.
    Proposes nothing if the model gives no critique or no usable rewrite.
    """
    judged = yield from situated.simulate()
    persona = render(situated.lines) or "- nothing yet"
    replies = yield from complete([_critique(one, persona, situated.task) for one in judged])
    feedback = [
        prompts.as_data(reply.text, 400)
        for reply in replies
        if reply.error is None and reply.text.strip()
    ]
    if not feedback:
        return []
    messages = prompts.messages(
        "rewrite",
        persona=persona,
        feedback="\n".join(f"- {text}" for text in feedback),
        count=str(REWRITE_LINES),
    )
    request = ModelRequest(
        messages,
        Sampling(max_tokens=240, temperature=0.5, seed=situated.seed + situated.round),
        schema=lines_schema(REWRITE_LINES),
        purpose="rewrite",
    )
    reply = (yield from complete([request]))[0]
    evidence = [one.interaction.id for one in judged]
    lines, refused = clean_lines(texts_of(reply)[:MAX_LINES], "gradient", evidence)
    if not lines:
        return []
    note = "rewrites from feedback" + (f"; {len(refused)} lines refused" if refused else "")
    return [Draft(tuple(lines), "textual gradient", note)]


def _critique(one: Simulation, persona: str, task: Task) -> ModelRequest:
    messages = prompts.messages(
        "critique",
        persona=persona,
        query_label=task.query_label,
        query=prompts.as_data(one.interaction.query, 600),
        predicted=prompts.as_data(one.prediction.text or "nothing", 300),
        outcome_label=task.outcome_label.lower(),
        outcome=prompts.as_data(one.interaction.outcome or "", 300),
    )
    return ModelRequest(messages, Sampling(max_tokens=64), purpose="critique")


def _event(one: Interaction, task: Task) -> str:
    query = prompts.as_data(one.query, 200)
    if one.outcome is None:
        return query
    return f"{query} — {task.outcome_label}: {prompts.as_data(one.outcome, 200)}"

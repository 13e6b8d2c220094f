"""Dual memory: which memories of a person take part, as text in the prompt and as weights.

A plan switches each part on and off. Text is what is recalled, the persona, and semantic memory:
statistics, facts, the summary. Weights are an adapter that the engine serves. Together they are
PRIME's dual memory; with a thought before the answer, all of PRIME.

Source: PRIME (Zhang, Beauchamp and Wang 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from persona_agent.memory.summaries import Summary
from persona_agent.persona import PersonaLine
from persona_agent.predict import Calibration, Job, RecallPlan, predict
from persona_agent.program import Program, adapted
from persona_agent.semantic import fact_lines, merged, statistics_lines, summary_lines
from persona_agent.task import Prediction, Task
from persona_agent.think import ThinkOptions, think
from persona_agent.types import Fact, Interaction, Record


@dataclass(frozen=True, slots=True)
class MemoryPlan(Record):
    """Which memories take part in an answer or a prediction.

    `recall` says which interactions; None is the agent's own plan, `RecallPlan(0)` none at all.
    `statistics` and `facts` are how many lines of each; the facts are those nearest to the query.
    `adapter` is the name under which the engine serves weights tuned on this person.
    """

    recall: RecallPlan | None = None
    persona: bool = True
    statistics: int = 0
    facts: int = 0
    summary: bool = False
    adapter: str | None = None
    think: ThinkOptions | None = None

    def __post_init__(self) -> None:
        for name in ("statistics", "facts"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 lines or more")


def lines_of(
    plan: MemoryPlan,
    query: str = "",
    *,
    persona: Sequence[PersonaLine] = (),
    history: Sequence[Interaction] = (),
    task: Task | None = None,
    facts: Sequence[Fact] = (),
    summaries: Sequence[Summary] = (),
    now: datetime | None = None,
) -> tuple[PersonaLine, ...]:
    """Return the lines that a plan puts into a prompt for a query at a moment, each once.

    The persona first, then statistics, the summary, facts: what changes with the query is last,
    so that prompts share their beginning. `history` is what statistics are made of, with its
    `task`; without a task there are none. Nothing is told that is later than `now`.
    """
    return merged(
        persona if plan.persona else (),
        statistics_lines(history, task, now=now, most=plan.statistics)
        if plan.statistics and task is not None
        else (),
        summary_lines(summaries, now=now) if plan.summary else (),
        fact_lines(facts, query, now=now, most=plan.facts) if plan.facts else (),
    )


def foresee(
    jobs: Sequence[Job],
    task: Task,
    plan: MemoryPlan = MemoryPlan(),
    *,
    calibration: Calibration = "none",
) -> Program[list[Prediction]]:
    """Return a prediction for each job by a plan: with its adapter, after a thought if it has one.

    What the jobs hold is what the prompts hold: `lines_of` says what a plan makes of it. Raises
    ValueError for a thought and a calibration, which measures prompts without one.
    """
    if plan.think is None:
        return (yield from adapted(predict(jobs, task, calibration=calibration), plan.adapter))
    if calibration != "none":
        raise ValueError(
            f"calibration is {calibration!r}; a prediction after a thought is not calibrated: "
            "give none, or a plan without think"
        )
    considered = yield from adapted(think(jobs, task, plan.think), plan.adapter)
    return [one.prediction for one in considered]

"""Does what memory recalls help a model to choose? Options by their likelihood, no judge.

Every user's history is in a real database. A model is asked the same question with no memory, and
with the k that each mode of recall finds, and takes the likeliest option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import TypeAlias

from persona_agent.drive import Ports, run_many
from persona_agent.eval.statistics import Interval, clustered_mean, paired
from persona_agent.eval.tasks.metrics import PER_QUERY
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.ports import LLM, Embedder
from persona_agent.predict import Job, RecallPlan, predict, remember
from persona_agent.program import Program
from persona_agent.task import Prediction, Task, situation
from persona_agent.types import Interaction, Record

NO_MEMORY = "no memory"
NONE = RecallPlan(recent=0)
ROOM = 1200  # tokens of memories in a prompt

Cluster: TypeAlias = Callable[[Interaction], str]


@dataclass(frozen=True, slots=True)
class Chosen(Record):
    """How often one arm chose right; `gain` is over no memory, None for that arm itself."""

    arm: str
    right: Interval
    gain: Interval | None


def arms(k: int) -> dict[str, RecallPlan]:
    """Return no memory, and `k` memories by each mode.

    Raises ValueError for a `k` below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    none = replace(NONE, max_tokens=ROOM)
    return {
        NO_MEMORY: NONE,
        f"recent {k}": replace(none, recent=k),
        f"similar {k}": replace(none, similar=k),
        f"hybrid {k}": replace(none, hybrid=k),
    }


def choose(
    tasks: TaskSet,
    llm: LLM,
    embedder: Embedder,
    plans: Mapping[str, RecallPlan],
    *,
    cluster: Cluster = lambda query: query.scope.user,
) -> list[Chosen]:
    """Return how often each arm is right, with intervals over clusters of queries.

    Nothing but histories is stored, so that no query is seen by another. A prediction that fails
    is wrong. Raises what stops a program: a model or a database that cannot be used.
    """
    right: dict[str, dict[str, list[float]]] = {}
    with TemporaryDirectory() as folder, closing(Store.open(f"{folder}/choice.db")) as store:
        memory = EpisodicMemory(store, embedder)
        for lived in tasks.histories.values():
            if lived:
                memory.add(lived, lived[-1].when)
        for arm, plan in plans.items():
            programs = [_predicted(query, plan, tasks.task) for query in tasks.queries]
            right[arm] = {}
            results = run_many(programs, Ports(llm, memory))
            for query, result in zip(tasks.queries, results, strict=True):
                if result.error is not None:
                    raise result.error
                value = PER_QUERY["accuracy"](tasks.task, result.value or Prediction(""), query)
                right[arm].setdefault(cluster(query), []).append(value)
    first = right[next(iter(plans))]
    return [
        Chosen(
            arm,
            clustered_mean(values),
            None if values is first else clustered_mean(paired(values, first)),
        )
        for arm, values in right.items()
    ]


def _predicted(query: Interaction, plan: RecallPlan, task: Task) -> Program[Prediction]:
    asked = situation(query, task)
    (memories,) = yield from remember(query.scope, plan, [asked], None)
    (made,) = yield from predict([Job((), memories, asked)], task)
    return made

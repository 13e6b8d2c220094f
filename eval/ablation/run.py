"""Running an ablation: every arm and person is a program, and all of them run side by side.

Batches cross arms, so that prompts of one person share prefixes and what several arms ask is
asked once. The replies are kept as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from persona_agent.drive import Ports, run_many
from persona_agent.errors import BudgetExceeded
from persona_agent.eval.ablation.arms import LABEL_PRIOR, Arm, arm_of
from persona_agent.eval.ablation.cache import Budget, Cache, CachedEmbedder, CachedLLM
from persona_agent.eval.ablation.knowing import Options
from persona_agent.eval.ablation.world import Person, world_of
from persona_agent.eval.tasks.metrics import LOWER_IS_BETTER, PER_QUERY, measure, per_query
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.ports import LLM, Embedder
from persona_agent.program import Program, Result, relayed
from persona_agent.task import Prediction
from persona_agent.types import ModelRequest, Record, Request, Usage

T = TypeVar("T")
Tell: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings(Record):
    """What is compared, on whom: arms by name, people drawn by the seed, queries of each.

    The label prior is always among the arms. Gains are over `reference`, which is, too.
    """

    arms: tuple[str, ...]
    users: int = 60
    queries: int = 5
    seed: int = 0
    reference: str = LABEL_PRIOR
    options: Options = Options()

    @property
    def names(self) -> tuple[str, ...]:
        """The arms that run, each once."""
        return tuple(dict.fromkeys((LABEL_PRIOR, self.reference, *self.arms)))

    def sample(self, tasks: TaskSet) -> TaskSet:
        """Return the part of a task set that is studied."""
        return tasks.sample(users=self.users, queries_per_user=self.queries, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Example(Record):
    """One arm's prediction of one query.

    `score` is the task's first metric, errors with a minus, so that higher is better; `loglik` the
    log-probability of the truth, None where the arm has none.
    """

    arm: str
    user: str
    query: str
    outcome: str
    predicted: str
    expected: float | None
    score: float
    loglik: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Spent(Record):
    """What one arm cost for one person, as if it had run alone; `error` is why it failed.

    Tokens are as the engine told them when each request was asked, `cached_tokens` in the company
    of the other arms; seconds are the request's share of its batch.
    """

    arm: str
    user: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Run(Record):
    """All that was found: predictions, costs, and how often the model was really asked.

    `metrics` has all metrics of the task by arm, over the people for whom the arm did not fail.
    """

    task: str
    metric: str
    model: str
    settings: Settings
    about: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float]]
    examples: tuple[Example, ...]
    spent: tuple[Spent, ...]
    asked: int


def run_arms(
    tasks: TaskSet,
    llm: LLM,
    settings: Settings,
    cache: Cache,
    *,
    model: str,
    embedder: Embedder,
    adapters: Mapping[str, Mapping[str, str]] | None = None,
    budget: Budget | None = None,
    tell: Tell = lambda stage, done, due: None,
) -> Run:
    """Run the arms and return every prediction.

    `model` names the model in the cache; `adapters` are the names of weights that it serves, by
    the method of their training and the user; `tell` is called with what is done, and how much of it is
    done and due. Raises ValueError for arms that cannot be had, before anything is asked, and
    BudgetExceeded with all replies so far kept. A model that answers nobody raises its error.
    """
    tuned = frozenset(adapters or {})
    arms = [arm_of(name, settings.options, tasks.task, tuned) for name in settings.names]
    sample = settings.sample(tasks)
    embed = CachedEmbedder(embedder, cache)
    tell("remembering", 0, len(sample.users))
    world = world_of(tasks, sample, embed, settings.seed, adapters or {})
    with Store.open(":memory:") as store:
        memory = EpisodicMemory(store, embed)
        now = datetime.now(UTC)
        for done, person in enumerate(world.people.values(), 1):
            memory.add(person.history, now)
            tell("remembering", done, len(world.people))
        cached = CachedLLM(
            llm, cache, model, budget=budget, tell=lambda done, due: tell("asking", done, due)
        )
        cases = [(arm, person) for arm in arms for person in world.people.values()]
        traces: list[list[ModelRequest]] = [[] for _ in cases]
        programs = [
            _traced(arm.predict(person, world), trace)
            for (arm, person), trace in zip(cases, traces, strict=True)
        ]
        results = run_many(programs, Ports(cached, memory))
    _check(results, traces)
    pairs = list(zip(cases, results, strict=True))
    metric = first_metric(tasks)
    examples = [
        example for (arm, who), result in pairs for example in _examples(arm, who, result, tasks)
    ]
    metrics = {
        arm.name: _metrics(tasks, [(who, one) for (own, who), one in pairs if own is arm])
        for arm in arms
    }
    spent = [
        _spent(arm, person, result, cache.seconds(map(cached.key, trace)))
        for (arm, person), result, trace in zip(cases, results, traces, strict=True)
    ]
    about = {arm.name: arm.about for arm in arms}
    return Run(
        tasks.name,
        metric,
        model,
        settings,
        about,
        metrics,
        tuple(examples),
        tuple(spent),
        cached.asked,
    )


def _check(
    results: Sequence[Result[list[Prediction]]], traces: Sequence[Sequence[ModelRequest]]
) -> None:
    """Raise what stopped the run: the budget, or a model that answered nobody."""
    asking = [result for result, trace in zip(results, traces, strict=True) if trace]
    for result in asking:
        if isinstance(result.error, BudgetExceeded):
            raise result.error
    if asking and asking[0].error is not None and not any(result.ok for result in asking):
        raise asking[0].error


def first_metric(tasks: TaskSet) -> str:
    """Return the metric that decides; raises ValueError if it has no value for one query."""
    metric = tasks.metrics[0]
    if metric not in PER_QUERY:
        known = ", ".join(PER_QUERY)
        raise ValueError(f"task {tasks.name!r} is decided by {metric!r}; an ablation needs {known}")
    return metric


def _traced(program: Program[T], trace: list[ModelRequest]) -> Program[T]:
    """Return what `program` returns, and note each model request it makes."""

    def note(requests: Sequence[Request]) -> Sequence[Request]:
        trace.extend(one for one in requests if isinstance(one, ModelRequest))
        return requests

    return relayed(program, outward=note)


def _examples(
    arm: Arm, person: Person, result: Result[list[Prediction]], tasks: TaskSet
) -> list[Example]:
    if result.error is not None:
        return []
    metric, predictions = first_metric(tasks), result.unwrap()
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    values = per_query(metric, tasks.task, predictions, person.queries)
    return [
        Example(
            arm.name,
            person.user,
            query.id,
            query.outcome or "",
            one.text,
            one.expected,
            sign * value,
            one.loglik(query.outcome or ""),
            one.error,
        )
        for query, one, value in zip(person.queries, predictions, values, strict=True)
    ]


def _metrics(
    tasks: TaskSet, results: Sequence[tuple[Person, Result[list[Prediction]]]]
) -> dict[str, float]:
    done = [(person, result.unwrap()) for person, result in results if result.ok]
    if not done:
        return {}
    queries = [query for person, _ in done for query in person.queries]
    predictions = [one for _, own in done for one in own]
    return {name: measure(name, tasks.task, predictions, queries) for name in tasks.metrics}


def _spent(arm: Arm, person: Person, result: Result[list[Prediction]], seconds: float) -> Spent:
    usage: Usage = result.usage
    return Spent(
        arm.name,
        person.user,
        usage.requests,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        seconds,
        result.reason or None,
    )

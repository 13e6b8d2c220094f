"""From what is known to predictions, with or without the action of looking things up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from persona_agent import prompts
from persona_agent.dual import MemoryPlan, foresee
from persona_agent.eval.ablation.knowing import Known
from persona_agent.eval.ablation.world import Person, World
from persona_agent.persona import render
from persona_agent.predict import Job, remember
from persona_agent.program import Program, adapted, complete, recall
from persona_agent.task import Prediction, Situation, Task, situation
from persona_agent.types import (
    Interaction,
    Json,
    Message,
    ModelReply,
    ModelRequest,
    RecallRequest,
    Sampling,
)

SEARCH_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"query": {"type": "string", "maxLength": 80}},
    "required": ["query"],
    "additionalProperties": False,
}


def act(known: Known, person: Person, world: World) -> Program[list[Prediction]]:
    """Return a prediction for each query of a person of whom this is known.

    Recall goes over the history, which is earlier than every query. With `known.search` the model
    first writes, query by query, what to look up; an answer that is no search finds nothing.
    """
    asked = [situation(one, world.task) for one in person.queries]
    shown = yield from remember(person.scope, known.plan, asked, None)
    memories = [list(one) for one in shown]
    if known.search:
        searches = _looked_up(known, asked, person, world.task)
        found = yield from adapted(searches, known.adapter)
        memories = [[*own, *more] for own, more in zip(memories, found, strict=True)]
    jobs = [
        Job(known.lines, _in_time(known, own), one)
        for own, one in zip(memories, asked, strict=True)
    ]
    plan = MemoryPlan(adapter=known.adapter, think=known.think)
    return (yield from foresee(jobs, world.task, plan))


def _looked_up(
    known: Known, asked: Sequence[Situation], person: Person, task: Task
) -> Program[list[list[Interaction]]]:
    replies = yield from complete([_search(known, one, task) for one in asked])
    queries = [_words(reply) for reply in replies]
    requests = [
        RecallRequest(person.scope, "similar", words, known.search) for words in queries if words
    ]
    found = iter((yield from recall(requests)))
    return [[hit.interaction for hit in next(found).memories] if words else [] for words in queries]


def _search(known: Known, asked: Situation, task: Task) -> ModelRequest:
    who = prompts.text("search", "persona", lines=render(known.lines)) if known.lines else ""
    system = [prompts.text("search", "policy"), who]
    query = prompts.as_data(asked.query, 600)
    user = prompts.text("search", "asked", query_label=task.query_label, query=query)
    return ModelRequest(
        (Message("system", "\n\n".join(one for one in system if one)), Message("user", user)),
        Sampling(max_tokens=48),
        schema=SEARCH_SCHEMA,
        purpose="search",
    )


def _words(reply: ModelReply) -> str:
    if reply.error is not None or not isinstance(reply.parsed, dict):
        return ""
    words = reply.parsed.get("query")
    return words.strip() if isinstance(words, str) else ""


def _in_time(known: Known, memories: Sequence[Interaction]) -> tuple[Interaction, ...]:
    unique = {one.id: one for one in memories}
    return tuple(
        replace(one, outcome=known.outcomes.get(one.id, one.outcome))
        for one in sorted(unique.values(), key=lambda one: one.when)
    )

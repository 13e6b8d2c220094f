"""One action: recall, use tools, think, answer.

The answer names the persona version and the memories it used. Tools are bounded in steps; a call
the model got wrong is data for its next step, never a crash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from persona_agent import prompts
from persona_agent.errors import BackendError
from persona_agent.persona import Persona, PersonaLine, render
from persona_agent.ports import Tool
from persona_agent.predict import RecallPlan
from persona_agent.program import Program, call_tool, complete, recall
from persona_agent.think import Said, ThinkOptions, deliberate
from persona_agent.types import (
    RECALL_KINDS,
    Fact,
    Interaction,
    Json,
    Message,
    ModelReply,
    ModelRequest,
    Recalled,
    RecallRequest,
    Record,
    Sampling,
    Scope,
    Usage,
)

SEARCH = "search_memory"
ANSWER = "answer"
SEARCH_PARAMETERS: Json = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
    "additionalProperties": False,
}
ANSWER_PARAMETERS: Json = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Step(Record):
    """One use of a tool on the way to an answer: what was called, what came of it."""

    action: str
    arguments: Mapping[str, Json]
    result: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """What the agent says, and what it used: persona version, memories, steps, tokens, facts.

    `known` are the lines of semantic memory in the prompt; `thought` is what was thought before,
    which is not part of `text`.
    """

    text: str
    scope: Scope
    persona_version: int
    memories: tuple[Interaction, ...]
    steps: tuple[Step, ...] = ()
    usage: Usage = Usage()
    facts: tuple[Fact, ...] = ()
    known: tuple[PersonaLine, ...] = ()
    thought: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class _Known:
    """What was recalled so far, each memory and fact once, and what was known before."""

    lines: tuple[PersonaLine, ...] = ()
    events: dict[str, Interaction] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)

    def add(self, hits: Iterable[Recalled]) -> None:
        for hit in hits:
            if hit.fact is None:
                self.events[hit.interaction.id] = hit.interaction
            else:
                self.facts[hit.fact.id] = hit.fact

    @property
    def in_time(self) -> tuple[Interaction, ...]:
        return tuple(sorted(self.events.values(), key=lambda one: one.when))


def answer(
    question: str,
    persona: Persona,
    *,
    plan: RecallPlan = RecallPlan(recent=4, similar=4),
    tools: Sequence[Tool] = (),
    max_steps: int = 4,
    sampling: Sampling = Sampling(max_tokens=400),
    lines: Sequence[PersonaLine] = (),
    think: ThinkOptions | None = None,
) -> Program[Answer]:
    """Return the agent's answer to a user's question.

    Memories are recalled first. With `tools`, the model may then use them and search memory
    further, at most `max_steps` times; after that, or without tools, it answers. `lines` are shown
    before the memories. With `think` it thinks before it answers, though not before a step, which
    may be an answer as well.
    Raises ValueError for an empty question or tools that share a name, BackendError if the model
    cannot answer.
    """
    if not question.strip():
        raise ValueError("the question is empty; ask something")
    _check_names(tools)
    scope = persona.scope
    replies = yield from recall(requests(plan, scope, question))
    known = _Known(tuple(lines))
    known.add(hit for reply in replies for hit in reply.memories)
    usage = Usage()
    steps: list[Step] = []
    while tools and len(steps) < max_steps:
        messages = _messages(question, persona, known, tools, steps)
        reply = (yield from complete([_step_request(messages, tools, sampling)]))[0]
        usage += reply.usage
        if reply.finish == "error":
            raise BackendError(f"the model could not take a step: {reply.error}")
        action, arguments, problem = _read_step(reply, tools)
        if problem is not None:
            steps.append(Step(action, arguments, "", problem))
        elif action == ANSWER:
            return _answer(str(arguments["text"]), persona, known, steps, usage)
        elif action == SEARCH:
            step, hits = yield from _search(scope, arguments)
            known.add(hits)
            steps.append(step)
        else:
            result = yield from call_tool(scope, action, arguments)
            steps.append(Step(action, arguments, result.text, result.error))
    messages = _messages(question, persona, known, (), steps)
    said = yield from _said(messages, sampling, think)
    return _answer(said.text, persona, known, steps, usage + said.usage, said.thought)


def _said(
    messages: tuple[Message, ...], sampling: Sampling, think: ThinkOptions | None
) -> Program[Said]:
    if think is not None:
        return (yield from deliberate(messages, sampling, think))
    reply = (yield from complete([ModelRequest(messages, sampling, purpose="answer")]))[0]
    if reply.error is not None:
        raise BackendError(f"the model could not answer: {reply.error}")
    return Said(reply.text.strip(), "", reply.usage)


def requests(plan: RecallPlan, scope: Scope, question: str) -> list[RecallRequest]:
    """Return the recalls of a plan for a question of now; its searches look for facts, too."""
    return [
        one if one.mode == "recent" else replace(one, kinds=RECALL_KINDS)
        for one in plan.requests(scope, question, None)
    ]


def remembered(
    memories: Sequence[Interaction],
    facts: Sequence[Fact] = (),
    lines: Sequence[PersonaLine] = (),
) -> str:
    """Return lines, facts and memories as the delimited, escaped block of a prompt; empty for none."""
    told = [prompts.text("ask", "known", text=prompts.as_data(one.text, 500)) for one in lines]
    dated = [
        ("fact", one.valid_from, one.text)
        for one in sorted(facts, key=lambda one: (one.valid_from, one.id))
    ]
    dated += [("memory", one.when, one.text) for one in memories]
    told += [
        prompts.text("ask", name, when=when.date().isoformat(), text=prompts.as_data(text, 500))
        for name, when, text in dated
    ]
    return prompts.text("ask", "memories", lines="\n".join(told)) if told else ""


def _answer(
    said: str,
    persona: Persona,
    known: _Known,
    steps: Sequence[Step],
    usage: Usage,
    thought: str = "",
) -> Answer:
    return Answer(
        said,
        persona.scope,
        persona.version,
        known.in_time,
        tuple(steps),
        usage,
        tuple(known.facts.values()),
        known.lines,
        thought,
    )


def _check_names(tools: Sequence[Tool]) -> None:
    names = [tool.name for tool in tools]
    taken = {SEARCH, ANSWER}
    for name in names:
        if name in taken:
            raise ValueError(
                f"two tools are called {name!r}; names must differ, and "
                f"{SEARCH!r} and {ANSWER!r} are built in"
            )
        taken.add(name)


def _messages(
    question: str,
    persona: Persona,
    known: _Known,
    tools: Sequence[Tool],
    steps: Sequence[Step],
) -> tuple[Message, ...]:
    who = prompts.text("ask", "persona", lines=render(persona.lines)) if persona.lines else ""
    actions = _actions(tools) if tools else ""
    system = [prompts.text("ask", "policy"), actions, who]
    memories = remembered(known.in_time, list(known.facts.values()), known.lines)
    user = [memories, question, *(_shown(step) for step in steps)]
    return (
        Message("system", "\n\n".join(part for part in system if part)),
        Message("user", "\n\n".join(part for part in user if part)),
    )


def _actions(tools: Sequence[Tool]) -> str:
    offered = [
        (SEARCH, prompts.text("ask", "search"), SEARCH_PARAMETERS),
        *((tool.name, tool.description, dict(tool.parameters)) for tool in tools),
        (ANSWER, prompts.text("ask", "answer"), ANSWER_PARAMETERS),
    ]
    lines = [
        prompts.text(
            "ask", "action", name=name, description=text, parameters=json.dumps(parameters)
        )
        for name, text, parameters in offered
    ]
    return prompts.text("ask", "actions", actions="\n".join(lines))


def _shown(step: Step) -> str:
    if step.error is not None:
        result = prompts.text("ask", "unusable", reason=prompts.as_data(step.error, 300))
    else:
        result = prompts.as_data(step.result)
    return prompts.text(
        "ask",
        "step",
        action=prompts.as_data(step.action, 60),
        arguments=prompts.as_data(json.dumps(dict(step.arguments), ensure_ascii=False), 300),
        result=result,
    )


def _step_request(
    messages: tuple[Message, ...], tools: Sequence[Tool], sampling: Sampling
) -> ModelRequest:
    kinds: list[Json] = [
        {
            "type": "object",
            "properties": {"action": {"const": name}, "arguments": parameters},
            "required": ["action", "arguments"],
            "additionalProperties": False,
        }
        for name, parameters in [
            (SEARCH, SEARCH_PARAMETERS),
            *((tool.name, dict(tool.parameters)) for tool in tools),
            (ANSWER, ANSWER_PARAMETERS),
        ]
    ]
    return ModelRequest(messages, sampling, schema={"anyOf": kinds}, purpose="step")


def _read_step(
    reply: ModelReply, tools: Sequence[Tool]
) -> tuple[str, Mapping[str, Json], str | None]:
    """Return action, arguments, and what is wrong with them, if anything is."""
    value = reply.parsed
    if value is None and reply.error is not None:
        return "?", {}, reply.error
    # JSON that does not fit the schema is judged here, in words that help the model's next step.
    if not isinstance(value, dict):
        return "?", {}, f"{reply.text[:80]!r} is not a JSON object"
    action, arguments = value.get("action"), value.get("arguments")
    known = [SEARCH, *(tool.name for tool in tools), ANSWER]
    if not isinstance(action, str) or action not in known:
        return str(action), {}, f"there is no action {action!r}; use one of {', '.join(known)}"
    if not isinstance(arguments, dict):
        return action, {}, f"the arguments of {action} must be a JSON object, not {arguments!r}"
    needed = {SEARCH: "query", ANSWER: "text"}.get(action)
    if needed and not (isinstance(arguments.get(needed), str) and arguments[needed]):
        return action, arguments, f"{action} needs {needed!r} as a non-empty string"
    return action, arguments, None


def _search(scope: Scope, arguments: Mapping[str, Json]) -> Program[tuple[Step, list[Recalled]]]:
    query = str(arguments["query"])
    request = RecallRequest(scope, "similar", query, k=5, kinds=RECALL_KINDS)
    reply = (yield from recall([request]))[0]
    hits = list(reply.memories)
    result = "; ".join(prompts.as_data(one.text, 200) for one in hits) or "nothing found"
    return Step(SEARCH, arguments, result), hits

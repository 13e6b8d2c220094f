"""The arms by name: `recent-8`, `recent-8+summary`, `persona-aligned@rounds=2:memories=4`.

A name is one or more parts joined by `+`, whose knowledge is added up, and after `@` the options
that differ from the study's. A number in a part is any number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeAlias

from persona_agent.eval.ablation import knowing
from persona_agent.eval.ablation.acting import act
from persona_agent.eval.ablation.knowing import Know, Known, Options
from persona_agent.eval.ablation.priors import label_prior, user_item_bias
from persona_agent.eval.ablation.world import Person, World
from persona_agent.program import Program
from persona_agent.task import Prediction, Task

Predict: TypeAlias = Callable[[Person, World], Program[list[Prediction]]]

LABEL_PRIOR = "label-prior"
BIAS = "user-item-bias"
SEARCHED = 4  # memories that a search of the model's own finds
ADAPTER = re.compile(r"lora-(\w+)")
MEMORIES = re.compile(r"(recent|similar|hybrid)-(\d+)")
WITHOUT_MODEL: Mapping[str, Callable[[Person, World], list[Prediction]]] = {
    LABEL_PRIOR: label_prior,
    BIAS: user_item_bias,
}
ALIGNMENT = frozenset(one.name for one in fields(Options)) - {"budget", "summed_up"}
PLAIN: frozenset[str] = frozenset()
MEMORY = frozenset({"memories"})
THOUGHT = frozenset({"memories", "budget"})
STARTED = ALIGNMENT - {"risk", "seed"}


@dataclass(frozen=True, slots=True)
class Part:
    """One way to know a person, what it is, and the options that it takes."""

    know: Know
    about: str
    takes: frozenset[str] = PLAIN


def _another(about: str, share: float) -> Part:
    other = partial(World.similar, share=share)
    return Part(_of_another(other), f"persona of {about} person in its place", STARTED)


def _of_another(other: Callable[[World, str], Person]) -> Know:
    return knowing.with_memories(knowing.of_another(knowing.start, other))


PARTS: Mapping[str, Part] = {
    "none": Part(knowing.nothing, "nothing is known"),
    "profile": Part(
        knowing.lines_alone(knowing.profile), "statistics and strongest tastes; no model, no gate"
    ),
    "summary": Part(
        knowing.lines_alone(knowing.summary),
        "a model's summary of groups, and of their summaries",
        frozenset({"summed_up"}),
    ),
    "facts": Part(knowing.lines_alone(knowing.facts), "facts that a model found"),
    "shuffled-outcomes": Part(knowing.shuffled, "the latest memories, outcomes shuffled", MEMORY),
    "persona": Part(
        knowing.with_memories(knowing.start),
        "first version of the persona, latest memories",
        STARTED,
    ),
    "persona-aligned": Part(
        knowing.with_memories(knowing.aligned), "persona after the gated alignment", ALIGNMENT
    ),
    "aligned-gate-likelihood": Part(
        knowing.with_memories(knowing.aligned), "gate by the likelihood of outcomes", ALIGNMENT
    ),
    "aligned-gate-metric": Part(
        knowing.with_memories(knowing.aligned_by_metric), "gate by the task's metric", ALIGNMENT
    ),
    "aligned-ungated": Part(
        knowing.with_memories(knowing.ungated), "the last draft, never judged", ALIGNMENT
    ),
    "persona-random-user": Part(
        _of_another(World.stranger), "persona of a random person in its place", STARTED
    ),
    "persona-similar-user": _another("the most similar", 0.0),
    "persona-similar-user-25": _another("a similar (25%)", 0.25),
    "persona-similar-user-50": _another("a middling (50%)", 0.5),
    "persona-similar-user-75": _another("a dissimilar (75%)", 0.75),
    "persona-similar-user-last": _another("the least similar", 1.0),
    "think-generic": Part(
        knowing.thinking("generic"), "a step-by-step thought, latest memories", THOUGHT
    ),
    "think-personal": Part(
        knowing.thinking("personal"), "a thought about the person, latest memories", THOUGHT
    ),
    "personaagent": Part(
        knowing.with_memories(knowing.aligned, SEARCHED),
        "aligned persona, memory, search",
        ALIGNMENT,
    ),
    "personaagent-no-alignment": Part(
        knowing.with_memories(knowing.start, SEARCHED), "the same without alignment", STARTED
    ),
    "personaagent-no-persona": Part(
        knowing.with_memories(knowing.no_lines, SEARCHED), "the same without persona", MEMORY
    ),
    "personaagent-no-memory": Part(
        knowing.lines_alone(knowing.aligned), "aligned persona alone: nothing to search", ALIGNMENT
    ),
    "personaagent-no-action": Part(
        knowing.with_memories(knowing.aligned), "the same without search", ALIGNMENT
    ),
}
TUNED = "tft"
# with weights of which method of training, and what besides
COMBINED: Mapping[str, tuple[str, Part]] = {
    "dual": (TUNED, Part(knowing.latest, "and the latest memories", MEMORY)),
    "prime": (
        "traces",
        Part(knowing.thinking("personal"), "memories, and a thought about the person", THOUGHT),
    ),
}
REIFIED = "pkr"
ALIASES = {"profile-only": "profile"}
FAMILIES = ("recent-K", "similar-K", "hybrid-K", "lora-METHOD")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to predict what people do, by its name."""

    name: str
    about: str
    predict: Predict


def arm_of(name: str, options: Options, task: Task, tuned: frozenset[str] = frozenset()) -> Arm:
    """Return the arm of this name for a task, with `options` where the name gives none.

    `tuned` are the methods of training of which there are adapters.

    Raises ValueError for an unknown name, listing the known, for an option that the arm does not
    take, and for an arm that cannot be had for this task, saying why.
    """
    base, _, given = name.partition("@")
    if base in WITHOUT_MODEL:
        if given:
            raise ValueError(f"arm {base!r} takes no options; {given!r} is given")
        if base == BIAS and not task.numeric:
            raise ValueError(f"arm {base!r} predicts numbers; task {task.name!r} has none")
        return Arm(name, "no model", _without_model(WITHOUT_MODEL[base]))
    parts = [part for one in base.split("+") for part in _parts(one, tuned)]
    takes = frozenset[str]().union(*(one.takes for one in parts))
    own = _options(name, given, options, takes)
    about = "; ".join(one.about for one in parts)
    return Arm(name, about, _with_model([one.know for one in parts], own))


def known_names() -> list[str]:
    """Return the names there are, K standing for any number."""
    return [*WITHOUT_MODEL, *FAMILIES, *PARTS, *COMBINED, REIFIED, *ALIASES]


def _parts(name: str, tuned: frozenset[str]) -> list[Part]:
    """Return the parts that a part's name stands for."""
    if match := ADAPTER.fullmatch(name):
        return [_adapter(name, match[1], tuned)]
    if name in COMBINED:
        method, part = COMBINED[name]
        return [_adapter(name, method, tuned), part]
    if name == REIFIED:
        _adapter(name, TUNED, tuned)
        lines = knowing.lines_alone(knowing.reified(TUNED))
        return [Part(lines, "what the weights know of the person, in words")]
    return [_part(name)]


def _adapter(name: str, method: str, tuned: frozenset[str]) -> Part:
    if method not in tuned:
        known = ", ".join(sorted(tuned)) or "none"
        raise ValueError(
            f"arm {name!r} needs adapters that were trained by {method!r}; there are {known}"
        )
    return Part(knowing.tuned(method), f"weights tuned on the person ({method})")


def _part(name: str) -> Part:
    if match := MEMORIES.fullmatch(name):
        kind, k = match[1], int(match[2])
        how = {"recent": "latest", "similar": "most similar", "hybrid": "best by meaning and words"}
        return Part(knowing.memories(kind, k), f"the {k} {how[kind]} memories")
    part = PARTS.get(ALIASES.get(name, name))
    if part is None:
        raise ValueError(
            f"there is no arm {name!r}; there are {', '.join(known_names())}, several joined by +, "
            "and options after @, such as persona-aligned@rounds=2:memories=4"
        )
    return part


def _options(name: str, given: str, options: Options, takes: frozenset[str]) -> Options:
    changes: dict[str, Any] = {}  # Any: each of the type its field has
    for pair in given.split(":") if given else ():
        key, _, value = pair.partition("=")
        if key not in takes:
            known = ", ".join(sorted(takes)) or "none"
            raise ValueError(f"arm {name!r} does not take the option {key!r}; it takes {known}")
        kind = type(getattr(options, key))
        try:
            changes[key] = value in ("1", "true", "yes") if kind is bool else kind(value)
        except ValueError as error:
            raise ValueError(f"{pair!r} in arm {name!r}: {kind.__name__} is due") from error
    return replace(options, **changes)


def _without_model(predict: Callable[[Person, World], list[Prediction]]) -> Predict:
    def program(person: Person, world: World) -> Program[list[Prediction]]:
        yield from ()
        return predict(person, world)

    return program


def _with_model(ways: list[Know], options: Options) -> Predict:
    def program(person: Person, world: World) -> Program[list[Prediction]]:
        known = Known()
        for know in ways:
            known += yield from know(person, world, options)
        return (yield from act(known, person, world))

    return program

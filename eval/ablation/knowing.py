"""What a prompt may know of a person: each way is a program from a history to a `Known`.

A way does no I/O; what needs a model yields requests. To add one, write such a function and name
it in `arms.PARTS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from persona_agent.align import AlignOptions, align, situated, split
from persona_agent.align import begin as begin_alignment
from persona_agent.errors import BackendError, ReplyFormatError
from persona_agent.eval.ablation.world import Person, World
from persona_agent.memory.facts import MAX_EVENTS, extract, merge
from persona_agent.memory.summaries import summarise as summarise_in_groups
from persona_agent.persona import Persona, PersonaLine, fit
from persona_agent.predict import RecallPlan
from persona_agent.program import Program
from persona_agent.propose import Proposer, miner, start_lines, summarise, textual_gradient
from persona_agent.reify import reify
from persona_agent.semantic import fact_lines, merged, statistics_lines, summary_lines
from persona_agent.think import Style, ThinkOptions
from persona_agent.types import Fact, Interaction, Record

FACT_EVENTS = 2 * MAX_EVENTS
NO_MEMORIES = RecallPlan(recent=0)


@dataclass(frozen=True, slots=True)
class Options(Record):
    """What an arm may be given after its name: `persona-aligned@rounds=2:memories=4`.

    `memories` are the latest interactions in the prompt; the others are those of an alignment. With
    `prose` the model writes, too: a summary for the first version, critiques and rewrites; without
    it, a persona is made of the person's own statistics alone. A thought has `budget` tokens. A summary is
    of the latest `summed_up` interactions.
    """

    memories: int = 8
    recent: int = 3
    rounds: int = 1
    held_out: int = 12
    anchors: int = 4
    risk: float = AlignOptions().risk
    seed: int = 0
    prose: bool = False
    budget: int = 96
    summed_up: int = 48

    @property
    def align(self) -> AlignOptions:
        """The options of the alignment."""
        return AlignOptions(
            recent=self.recent,
            rounds=self.rounds,
            held_out=self.held_out,
            anchors=self.anchors,
            risk=self.risk,
            seed=self.seed,
            plan=self.plan,
        )

    @property
    def plan(self) -> RecallPlan:
        """What a persona's prompt remembers besides."""
        return RecallPlan(recent=self.memories)

    @property
    def proposers(self) -> tuple[Proposer, ...]:
        """Where candidate personas come from."""
        return (miner, textual_gradient) if self.prose else (miner,)


@dataclass(frozen=True, slots=True)
class Known(Record):
    """What the prompts of one person hold: lines about the person, and which memories.

    `outcomes`, by interaction id, stand in the memories instead of the real ones. With `search`
    the model chooses what to look up for each query, and so many memories are found for it. With
    `think` it thinks before it answers; `adapter` are weights that were tuned on the person.
    """

    lines: tuple[PersonaLine, ...] = ()
    plan: RecallPlan = NO_MEMORIES
    outcomes: dict[str, str] = field(default_factory=dict)
    search: int = 0
    think: ThinkOptions | None = None
    adapter: str | None = None

    def __add__(self, other: Known) -> Known:
        """Return what knows both, each line once; of two adapters or thoughts, the later."""
        return Known(
            merged(self.lines, other.lines),
            RecallPlan(
                recent=max(self.plan.recent, other.plan.recent),
                similar=max(self.plan.similar, other.plan.similar),
                hybrid=max(self.plan.hybrid, other.plan.hybrid),
            ),
            self.outcomes | other.outcomes,
            max(self.search, other.search),
            other.think or self.think,
            other.adapter or self.adapter,
        )


Know: TypeAlias = Callable[[Person, World, Options], Program[Known]]
Lines: TypeAlias = Callable[[Person, World, Options], Program[Sequence[PersonaLine]]]


def nothing(person: Person, world: World, options: Options) -> Program[Known]:
    """Know nothing: what the model says of anybody."""
    yield from ()
    return Known()


def memories(kind: str, k: int) -> Know:
    """Return the way that shows k memories: the recent, the similar or the hybrid."""

    def know(person: Person, world: World, options: Options) -> Program[Known]:
        yield from ()
        return Known(plan=replace(NO_MEMORIES, **{kind: k}))

    return know


def lines_alone(lines: Lines) -> Know:
    """Return the way that shows lines and no memories."""

    def know(person: Person, world: World, options: Options) -> Program[Known]:
        return Known(tuple((yield from lines(person, world, options))))

    return know


def with_memories(lines: Lines, search: int = 0) -> Know:
    """Return the way that shows lines and the latest memories."""

    def know(person: Person, world: World, options: Options) -> Program[Known]:
        found = yield from lines(person, world, options)
        return Known(tuple(found), options.plan, search=search)

    return know


def thinking(style: Style) -> Know:
    """Return the way that thinks about the latest memories before each answer."""

    def know(person: Person, world: World, options: Options) -> Program[Known]:
        yield from ()
        return Known(plan=options.plan, think=ThinkOptions(style, options.budget))

    return know


def tuned(method: str) -> Know:
    """Return the way that uses the person's own adapter of a method of training."""

    def know(person: Person, world: World, options: Options) -> Program[Known]:
        yield from ()
        return Known(adapter=world.adapter(method, person.user))

    return know


def reified(method: str) -> Lines:
    """Return the lines that a person's adapter knows, in words."""

    def lines(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
        return (yield from reify(world.adapter(method, person.user))).lines

    return lines


def latest(person: Person, world: World, options: Options) -> Program[Known]:
    """Know the latest memories, as many as the options say."""
    yield from ()
    return Known(plan=options.plan)


def of_another(lines: Lines, other: Callable[[World, str], Person]) -> Lines:
    """Return the lines of another person, in the place of this one's."""
    return lambda person, world, options: lines(other(world, person.user), world, options)


# --- lines ----------------------------------------------------------------------------------


def no_lines(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return no lines."""
    yield from ()
    return ()


def profile(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return statistics of the whole history and its strongest tastes; no model, no gate."""
    yield from ()
    return statistics_lines(person.history, world.task)


def summary(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return a model's hierarchical summary of the latest interactions."""
    tree = yield from summarise_in_groups(person.history[-options.summed_up :])
    return summary_lines(tree.new)


def facts(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return the facts that a model finds in the latest interactions, the surest first.

    Block after block, each knowing the facts of those before; a block whose answer cannot be used
    adds none: facts are never half read.
    """
    events = {one.id: one for one in person.history}
    shown = person.history[-FACT_EVENTS:]
    known: dict[str, Fact] = {}
    for begin in range(0, len(shown), MAX_EVENTS):
        try:
            block = shown[begin : begin + MAX_EVENTS]
            found = yield from extract(block, list(known.values()))
        except (BackendError, ReplyFormatError):
            continue
        change = merge(list(known.values()), found.drafts, events)
        known |= {one.id: one for one in (*change.new, *change.closed)}
    return fact_lines(list(known.values()))


def start(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return the first version of a persona, before any alignment.

    It knows what an alignment would not use, so that the two differ in the alignment alone.
    """
    seen = _before_alignment(person.history, options.align)
    lines = start_lines(seen, world.task)
    if options.prose:
        lines += yield from summarise(person.scope, seen, world.task)
    return fit(lines, Persona(person.scope))


def aligned(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return the persona after an alignment; the first version, where there is too little for one."""
    return (yield from _aligned(person, world, options, options.align))


def aligned_by_metric(
    person: Person, world: World, options: Options
) -> Program[Sequence[PersonaLine]]:
    """Return the persona after an alignment whose gate goes by the task's metric."""
    return (yield from _aligned(person, world, options, replace(options.align, measure="metric")))


def ungated(person: Person, world: World, options: Options) -> Program[Sequence[PersonaLine]]:
    """Return the persona after a loop without gate, as PersonaAgent's: the last draft is taken.

    It proposes from the same interactions as the gated loop does, and is never judged.
    """
    lines = yield from start(person, world, options)
    if len(person.history) < options.align.needed:
        return lines
    persona = Persona(person.scope, tuple(lines))
    history = split(person.history, options.align)
    state = begin_alignment(persona, history, options.align)
    for number in range(options.rounds):
        seen = situated(state, persona, history, world.task)
        for proposer in options.proposers:
            for draft in (yield from proposer(seen)):
                state = replace(state, lines=fit(draft.lines, persona))
        state = replace(state, round=number + 1)
    return state.lines


def shuffled(person: Person, world: World, options: Options) -> Program[Known]:
    """Know the latest interactions, with outcomes dealt out anew among all of the history."""
    yield from ()
    outcomes = [one.outcome or "" for one in person.history]
    random.Random(f"{world.seed} {person.user}").shuffle(outcomes)
    ids = [one.id for one in person.history]
    return Known(plan=options.plan, outcomes=dict(zip(ids, outcomes, strict=True)))


def _aligned(
    person: Person, world: World, options: Options, how: AlignOptions
) -> Program[Sequence[PersonaLine]]:
    lines = tuple((yield from start(person, world, options)))
    if len(person.history) < how.needed:
        return lines
    persona = Persona(person.scope, lines)
    history = split(person.history, how)
    done = yield from align(persona, history, world.task, options.proposers, how)
    return done.after.lines


def _before_alignment(
    history: Sequence[Interaction], options: AlignOptions
) -> Sequence[Interaction]:
    return history if len(history) < options.needed else split(history, options).earlier

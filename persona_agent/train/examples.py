"""What is learned from: texts made of a user's interactions, and which of their letters count.

Pure functions from interactions in time order to examples, in the order of time. Nothing later
than what is learned stands before it. The prompts are those of `predict`, letter for letter, so
that an adapter is asked what it was taught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import TypeAlias

from persona_agent import prompts
from persona_agent.distil import Trace
from persona_agent.errors import NotEnoughData
from persona_agent.llm.wire import plain_text
from persona_agent.memory.tokens import estimate_tokens
from persona_agent.predict import Job, requests_of
from persona_agent.task import Task, is_labelled, situation
from persona_agent.train.options import TrainOptions
from persona_agent.types import Interaction, Message, Record

MAX_INPUT_CHARS = 2000

_TextOf: TypeAlias = Callable[[Interaction], str]
Render: TypeAlias = Callable[[Sequence[Message]], str]


@dataclass(frozen=True, slots=True)
class Example(Record):
    """A text, the spans of its letters that are learned, and the interactions it is made of.

    `learned` are (begin, end) in characters, rising; the rest is only read. For a preference,
    `rejected` has for each of them what was not chosen in its place. In a `template` the names of
    control tokens are these tokens.
    """

    text: str
    learned: tuple[tuple[int, int], ...]
    events: tuple[str, ...]
    rejected: tuple[str, ...] = ()
    template: bool = False


def earlier(history: Sequence[Interaction], cut: datetime | None) -> list[Interaction]:
    """Return what happened before `cut`, or all; raises ValueError unless in time order."""
    for one, two in pairwise(history):
        if two.when < one.when:
            raise ValueError(
                f"interaction {two.id!r} is earlier than {one.id!r} before it; give them in order"
            )
    return [one for one in history if cut is None or one.when < cut]


def cut_of(history: Sequence[Interaction], held_out: int) -> datetime | None:
    """Return the time from which nothing is learned where so many outcomes are held out; None: all is.

    Raises NotEnoughData if no outcome is left.
    """
    if not held_out:
        return None
    labelled = [one for one in history if is_labelled(one)]
    if len(labelled) <= held_out:
        raise NotEnoughData(
            f"there are {len(labelled)} outcomes, of which {held_out} are held out; give fewer"
        )
    return labelled[-held_out].when


def examples(
    history: Sequence[Interaction],
    task: Task,
    options: TrainOptions,
    *,
    cut: datetime | None = None,
    traces: Sequence[Trace] = (),
    render: Render | None = None,
) -> list[Example]:
    """Return what one user's history before `cut` teaches by the method of `options`.

    `render` writes the messages of `traces` as the model reads a chat. Raises NotEnoughData if
    that is nothing, and ValueError where the method has no use for traces.
    """
    known = earlier(history, cut)
    if traces and options.method != "traces":
        raise ValueError(f"traces are given, but the method is {options.method!r}")
    if options.method == "ntp":
        made = list(_texts(known, options))
    elif options.method == "cig":
        made = list(_inputs(known, options))
    else:
        made = list(_outcomes(known, task, options))
        if options.method == "traces":
            made = mixed(made, thoughts(known, traces, render), options.seed)
    if not made:
        raise NotEnoughData(
            f"there is nothing to learn by {options.method!r} from {len(known)} interactions"
        )
    return made


def thoughts(
    known: Sequence[Interaction], traces: Sequence[Trace], render: Render | None
) -> list[Example]:
    """Return an example of each trace whose event is known: thought and answer are learned.

    It is made of that event, and of all that the model was shown. Raises ValueError for traces
    without `render`.
    """
    if traces and render is None:
        raise ValueError("traces are chats; give render, which writes them as the model reads them")
    there = {one.id for one in known}
    made = []
    for one in traces:
        if one.event not in there or render is None:
            continue
        prompt = render(one.messages)
        text = prompt + one.completion
        shown = tuple(event for event in one.shown if event in there)
        spans = ((len(prompt), len(text)),)
        made.append(Example(text, spans, (*shown, one.event), template=True))
    return made


def mixed(plain: Sequence[Example], thought: Sequence[Example], seed: int) -> list[Example]:
    """Return as many plain examples as thoughts, or all there are, and the thoughts, by turns.

    PRIME (Zhang et al. 2025) trains on both side by side, so that the model keeps the ability to
    answer without thinking. Raises NotEnoughData without thoughts.
    """
    if not thought:
        raise NotEnoughData("no trace is about an interaction that is learned from")
    rows = sorted(Random(seed).sample(range(len(plain)), min(len(plain), len(thought))))
    chosen = [plain[row] for row in rows]
    made: list[Example] = []
    for place in range(max(len(chosen), len(thought))):
        made += [*chosen[place : place + 1], *thought[place : place + 1]]
    return made


def _outcomes(known: Sequence[Interaction], task: Task, options: TrainOptions) -> Iterator[Example]:
    """Give texts in which every outcome is learned, with those before it as its memories.

    One text teaches up to `window` outcomes, at the price of reading each once; a text of its own
    for each outcome would read its memories again every time. For a preference only outcomes that
    were chosen from options count, each against another of them, drawn by the seed.
    """
    labelled = [one for one in known if is_labelled(one)]
    others: list[str] = []
    if options.is_preference:
        rng = Random(options.seed)
        left = [
            [other for other in situation(one, task).options if other != one.outcome]
            for one in labelled
        ]
        labelled = [one for one, some in zip(labelled, left, strict=True) if some]
        others = [prompts.as_data(rng.choice(some)) for some in left if some]
    start = 0
    while start < len(labelled):
        text, spans = "", list[tuple[int, int]]()
        for place in range(start, min(start + options.window, len(labelled))):
            asked = _prompt(labelled[start:place], labelled[place], task)
            outcome = prompts.as_data(labelled[place].outcome or "")
            # an example that is not written as its question was, such as one of other options
            if not asked.startswith(text) or (
                text and estimate_tokens(asked + outcome) > options.max_tokens
            ):
                break
            text = asked + outcome
            spans.append((len(asked), len(text)))
        end = start + len(spans)
        yield Example(text, tuple(spans), _ids(labelled[start:end]), tuple(others[start:end]))
        start = end


def _texts(known: Sequence[Interaction], options: TrainOptions) -> Iterator[Example]:
    """Give the user's own texts, several in one, all of which is learned."""
    for some in _packed([one for one in known if one.role == "user"], options, _own_text):
        text = "\n\n".join(map(_own_text, some))
        yield Example(text, ((0, len(text)),), _ids(some))


def _inputs(known: Sequence[Interaction], options: TrainOptions) -> Iterator[Example]:
    """Give the user's inputs after the inputs before them and their titles; inputs are learned."""
    for some in _packed([one for one in known if one.role == "user"], options, _own_query):
        text, spans = prompts.text("train", "inputs"), []
        for one in some:
            text += "\n\n" + _heading(one)
            spans.append((len(text), len(text) + len(_own_query(one))))
            text += _own_query(one)
        yield Example(text, tuple(spans), _ids(some))


def _packed(
    known: Sequence[Interaction], options: TrainOptions, text_of: _TextOf
) -> Iterator[list[Interaction]]:
    """Give neighbours that fit into a window together; who has no text is left out."""
    some: list[Interaction] = []
    tokens = 0
    for one in known:
        if not text_of(one):
            continue
        more = estimate_tokens(text_of(one)) + 8
        if some and (len(some) == options.window or tokens + more > options.max_tokens):
            yield some
            some, tokens = [], 0
        some.append(one)
        tokens += more
    if some:
        yield some


def _own_text(one: Interaction) -> str:
    """What the user wrote: not the response, which is a model's."""
    parts = (one.query, one.outcome or "")
    return "\n".join(prompts.as_data(part, MAX_INPUT_CHARS) for part in parts if part)


def _own_query(one: Interaction) -> str:
    return prompts.as_data(one.query, MAX_INPUT_CHARS)


def _heading(one: Interaction) -> str:
    """What stands before an input: its label, and its title where it has one."""
    label = prompts.as_data(str(one.metadata.get("query_label", "Text")), 40)
    title = one.metadata.get("title")
    if isinstance(title, str) and title:
        return prompts.text("train", "titled", label=label, title=prompts.as_data(title, 200)) + " "
    return f"{label}: "


def _prompt(before: Sequence[Interaction], one: Interaction, task: Task) -> str:
    (request,) = requests_of([Job((), tuple(before), situation(one, task))], task)
    return plain_text(request)


def _ids(some: Sequence[Interaction]) -> tuple[str, ...]:
    return tuple(one.id for one in some)

"""Hierarchical summaries: events into groups, groups into larger ones, all into one of the person.

`summarise` is a program: it asks a model and returns a tree; it writes nothing. The tree is cut by
content: what a summary is made of decides its id, and where groups end is decided by what is in
them, not by how many came before. So a new, changed or deleted event touches its own group and
what stands above it, and only these are asked for again; all else is taken from what is known.

Source: PRIME (Zhang, Beauchamp and Wang 2025), textual semantic memory by hierarchical
summarisation, of which no code is published; cutting by content is that of rsync and of Merkle
search trees (Auvolat and Taïani 2019).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

from persona_agent import prompts
from persona_agent.errors import ReplyFormatError
from persona_agent.lines import lines_schema, texts_of
from persona_agent.memory.facts import own_words
from persona_agent.memory.statement import check_not_repeated, statement
from persona_agent.program import Program, complete
from persona_agent.sensitive import WordLists
from persona_agent.types import Interaction, Message, ModelReply, ModelRequest, Record, Sampling

Level: TypeAlias = Literal["event", "group", "user"]
T = TypeVar("T")

FORM = "1"  # of the prompts: a new number asks for everything again
OUTCOME = " — "  # between what an event asked and what came of it
LONG = 400  # characters of an event that is shortened before it is summed up
FEWEST, MOST = 4, 16  # of a group
ONE_IN = 8  # events end a group, where it may end
LINES: Mapping[Level, int] = {"event": 2, "group": 3, "user": 6}


@dataclass(frozen=True, slots=True)
class Summary(Record):
    """What a model says of some events, as lines, and what it was made of.

    `events` are those it was made of directly, `parts` the summaries; `leaves` follows them down.
    It tells of nothing after `valid_from`, the time of its latest event. `valid_until` is None
    while it stands in the tree; `superseded_by` names the person's summary that was made instead.
    """

    id: str
    level: Level
    lines: tuple[str, ...]
    valid_from: datetime
    events: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    valid_until: datetime | None = None
    superseded_by: str | None = None

    def holds(self, at: datetime) -> bool:
        """Return whether this is what was said at a time."""
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)

    @property
    def text(self) -> str:
        """Its lines as one text."""
        return " ".join(self.lines)


@dataclass(frozen=True, slots=True)
class Tree(Record):
    """The summaries of a person: the one on top, all that stand, and those that are new.

    `user` is None where nothing was to be summed up, and where `failed` says why the top could not
    be made; what is `new` is of use even then. `left_out` says what is missing in the tree, and
    why.
    """

    user: Summary | None = None
    standing: tuple[str, ...] = ()
    new: tuple[Summary, ...] = ()
    left_out: tuple[str, ...] = ()
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    """What a summary is made of: an event or a summary, as a prompt shows it."""

    id: str
    key: str
    text: str
    first: datetime
    last: datetime
    is_event: bool


@dataclass(frozen=True, slots=True)
class _Node:
    """A summary that is to be: what of, and under which id."""

    level: Level
    units: tuple[_Unit, ...]

    @property
    def id(self) -> str:
        return _hash(FORM, self.level, *(one.key for one in self.units))

    @property
    def says_something(self) -> bool:
        return any(one.text for one in self.units)

    @property
    def told(self) -> list[str]:
        """What a line may not just repeat: events, what was asked in them, and what came of it.

        A long event may be shortened to a sentence of its own.
        """
        if self.level == "event":
            return []
        events = [one.text for one in self.units if one.is_event]
        return [part for text in events for part in (text, *text.split(OUTCOME))]

    def summary(self, lines: Sequence[str]) -> Summary:
        return Summary(
            self.id,
            self.level,
            tuple(lines),
            max(one.last for one in self.units),
            tuple(one.id for one in self.units if one.is_event),
            tuple(one.id for one in self.units if not one.is_event),
        )


@dataclass(slots=True)
class _Making:
    """A tree under way."""

    known: Mapping[str, Summary]
    sensitive: bool
    words: WordLists | None
    standing: dict[str, None] = field(default_factory=dict)
    new: list[Summary] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failed: str | None = None

    def make(self, nodes: Sequence[_Node], *, needed: bool) -> Program[list[Summary | None]]:
        """Return the summary of each node, asking for those that are not known; None of none.

        What a model says that is not of the form leaves one out. Raises _Failed if the engine
        fails, or, of what is `needed`, none can be had; what was made is kept.
        """
        made = {one.id: one.summary(()) for one in nodes if not one.says_something}
        asked = [one for one in nodes if one.id not in self.known and one.id not in made]
        replies = yield from complete([_request(one) for one in asked])
        problem = None
        for node, reply in zip(asked, replies, strict=True):
            try:
                made[node.id] = node.summary(self._lines(node, reply))
            except ReplyFormatError as error:
                self.left_out.append(str(error))
                problem = problem or str(error)
                if reply.error is not None and not reply.error.startswith("ReplyFormatError"):
                    self.failed = str(error)
        self.new += [one for one in made.values() if one.id not in self.known]
        found = [made.get(one.id) or self.known.get(one.id) for one in nodes]
        self.standing |= {one.id: None for one in found if one is not None}
        if self.failed is None and needed and problem and not any(found):
            self.failed = problem
        if self.failed is not None:
            raise _Failed
        return found

    def _lines(self, node: _Node, reply: ModelReply) -> list[str]:
        what = f"the {node.level} summary of {node.units[0].first:%Y-%m-%d}"
        if reply.error is not None:
            raise ReplyFormatError(f"{what} could not be made: {reply.error}")
        if reply.finish != "stop":
            raise ReplyFormatError(f"{what} was cut off (finish is {reply.finish!r})")
        texts = texts_of(reply)
        if not texts:
            raise ReplyFormatError(f"{what} is not lines but {reply.text[:80]!r}")
        self.left_out += reply.salvaged
        kept: dict[str, None] = {}
        told = node.told
        for text in texts[: LINES[node.level]]:
            try:
                line = statement(text, sensitive=self.sensitive, words=self.words)
                check_not_repeated(line, told)
                kept.setdefault(line)
            except ValueError as error:
                self.left_out.append(str(error))
        return list(kept)


class _Failed(Exception):
    """Why the rest of a tree cannot be made now."""


def summarise(
    events: Sequence[Interaction],
    known: Mapping[str, Summary] | None = None,
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
) -> Program[Tree]:
    """Return the tree of summaries of a user's own events, in time order.

    One batch of requests a level: long events, groups, groups of groups as far as needed, the
    person. What is `known`, by id, is not asked for again. What is sensitive by `words`, by
    default the lists that ship, is left out unless let in. A model that fails is no exception: the
    tree says so, and holds what was made.
    """
    own = own_words(events)
    making = _Making(known or {}, sensitive, words)
    if not own:
        return Tree()
    try:
        units = yield from _shortened(making, [_of_event(one) for one in own])
        while len(units) > MOST:
            nodes = [_Node("group", tuple(group)) for group in cut(units, key=lambda one: one.key)]
            found = yield from making.make(nodes, needed=True)
            made = zip(nodes, found, strict=True)
            units = [_above(node, one) for node, one in made if one is not None]
        found = yield from making.make([_Node("user", tuple(units))], needed=True)
    except _Failed:
        return Tree(new=tuple(making.new), left_out=tuple(making.left_out), failed=making.failed)
    return Tree(found[0], tuple(making.standing), tuple(making.new), tuple(making.left_out))


def leaves(summary: Summary, known: Mapping[str, Summary]) -> tuple[str, ...]:
    """Return the ids of all events that a summary rests on, in their order; see `known`."""
    found: dict[str, None] = {}
    for part in summary.parts:
        if part in known:
            found |= dict.fromkeys(leaves(known[part], known))
    return tuple(found | dict.fromkeys(summary.events))


def at_time(summaries: Iterable[Summary], now: datetime | None = None) -> list[Summary]:
    """Return what was the summary of the person at a time, else the latest groups of then.

    One summary, or at most four groups, oldest first; none where nothing was said yet. None is
    after all of them.
    """
    held = [
        one
        for one in summaries
        if one.lines and (one.valid_until is None if now is None else one.holds(now))
    ]
    tops = [one for one in held if one.level == "user"]
    if tops:
        return [max(tops, key=lambda one: (one.valid_from, one.id))]
    inner = {part for one in held for part in one.parts}
    groups = [one for one in held if one.level == "group" and one.id not in inner]
    return sorted(groups, key=lambda one: (one.valid_from, one.id))[-4:]


def cut(units: Sequence[T], key: Callable[[T], str]) -> list[list[T]]:
    """Return units in groups of 4 to 16, in order; only the last may be smaller.

    A group ends where the key of a unit, in hexadecimal digits, says so: one in eight does. Hence
    what is inserted or taken away moves the ends of few groups.

    >>> cut("abcdefg", key=lambda one: "0" if one == "e" else "1")
    [['a', 'b', 'c', 'd', 'e'], ['f', 'g']]
    """
    groups: list[list[T]] = []
    group: list[T] = []
    for one in units:
        group.append(one)
        ends = int(key(one)[:8], 16) % ONE_IN == 0
        if len(group) == MOST or (ends and len(group) >= FEWEST):
            groups.append(group)
            group = []
    return [*groups, group] if group else groups


def _shortened(making: _Making, units: list[_Unit]) -> Program[list[_Unit]]:
    """Return events with those that are long in short; one that cannot be is cut off."""
    nodes = {one.id: _Node("event", (one,)) for one in units if len(one.text) > LONG}
    found = yield from making.make(list(nodes.values()), needed=False)
    short = dict(zip(nodes, found, strict=True))
    return [
        _above(nodes[one.id], said) if (said := short.get(one.id)) and said.lines else one
        for one in units
    ]


def _of_event(one: Interaction) -> _Unit:
    text = one.query if one.outcome is None else f"{one.query}{OUTCOME}{one.outcome}"
    return _Unit(one.id, _hash(one.id, text), text, one.when, one.when, True)


def _above(node: _Node, said: Summary) -> _Unit:
    """Return what a summary is to the next level; one without lines is not shown there."""
    first = min(one.first for one in node.units)
    return _Unit(said.id, said.id, said.text, first, said.valid_from, False)


def _request(node: _Node) -> ModelRequest:
    shown = [
        prompts.text(
            "hierarchy",
            "dated",
            when=_dates(one.first, one.last),
            text=prompts.as_data(one.text, 3000 if node.level == "event" else LONG + 200),
        )
        for one in node.units
        if one.text
    ]
    section = "person" if node.level == "user" else node.level
    most = LINES[node.level]
    asked = prompts.text("hierarchy", "shown", events="\n".join(shown), count=str(most))
    return ModelRequest(
        (Message("system", prompts.text("hierarchy", section)), Message("user", asked)),
        Sampling(max_tokens=60 * most),
        schema=lines_schema(most, 200),
        purpose="summaries",
    )


def _dates(first: datetime, last: datetime) -> str:
    begin, end = first.date().isoformat(), last.date().isoformat()
    return begin if begin == end else f"{begin} to {end}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

"""Semantic memory as lines of a prompt: what is known of a person at a moment, part by part.

Pure: what happened and what was made of it goes in, lines with their evidence come out. Nothing in
them is later than the moment asked about. Whose outcome is to be predicted is the caller's to
leave out of the history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from persona_agent.memory.lexicon import Lexicon, words_of
from persona_agent.memory.summaries import Summary, at_time, leaves
from persona_agent.mine import Kind, mine
from persona_agent.persona import MAX_EVIDENCE, PersonaLine, describe
from persona_agent.task import Task, is_labelled
from persona_agent.types import Fact, Interaction, Record

STATISTICS: tuple[Kind, ...] = ("statistics", "taste", "wording")


@dataclass(frozen=True, slots=True)
class Description(Record):
    """What is said of a person in short, at a moment (None is now), as lines with evidence."""

    user: str
    lines: tuple[PersonaLine, ...] = ()
    as_of: datetime | None = None

    def __str__(self) -> str:
        return "\n".join(describe(line) for line in self.lines) or "nothing is summed up yet"


def statistics_lines(
    history: Sequence[Interaction],
    task: Task,
    *,
    now: datetime | None = None,
    most: int = 8,
    kinds: Collection[Kind] = STATISTICS,
) -> list[PersonaLine]:
    """Return the user's own statistics: how often which outcome, and what differs by group.

    No model is asked. Label frequencies and means come first, then the groups that stand apart,
    the surest first; at most `most` lines. Only what happened up to `now` counts; None is all.
    """
    known = [one for one in upto(history, now) if is_labelled(one)]
    found = [one for one in mine(known, task) if one.kind in kinds]
    return [one.line("statistics") for one in found[:most]]


def fact_lines(
    facts: Sequence[Fact],
    query: str = "",
    *,
    now: datetime | None = None,
    most: int = 8,
    events: Collection[str] | None = None,
) -> list[PersonaLine]:
    """Return the facts that held at `now` as lines, at most `most`; None is after all of them.

    First those that share words with `query`, by BM25; of equals the more certain, then the
    later. A line names the fact's evidence, of which only `events` if they are given: what
    repeated it later is not known yet.
    """
    held = [one for one in facts if _held(one, now)]
    lexicon = Lexicon()
    for one in held:
        lexicon.add(one.text)
    scores = lexicon.scores(words_of(query), len(held), None)
    ranked = sorted(
        zip(scores, held, strict=True),
        key=lambda pair: (-pair[0], -pair[1].confidence, -pair[1].valid_from.timestamp()),
    )
    return [
        PersonaLine(
            one.text,
            tuple(event for event in one.evidence if events is None or event in events),
            "fact",
        )
        for _, one in ranked[:most]
    ]


def summary_lines(
    summaries: Sequence[Summary], *, now: datetime | None = None, most: int = 8
) -> list[PersonaLine]:
    """Return the summary of the person that held at `now` as lines, at most `most`.

    Where there was none yet, those of the latest groups of events; see `memory.summaries.at_time`.
    A line names the latest events of all that its summary rests on. None is after all of them.
    """
    known = {one.id: one for one in summaries}
    lines = [
        PersonaLine(line, leaves(one, known)[-MAX_EVIDENCE:], "summary")
        for one in at_time(summaries, now)
        for line in one.lines
    ]
    return list(merged(lines[:most]))


def upto(history: Iterable[Interaction], now: datetime | None) -> list[Interaction]:
    """Return what happened up to a moment, it included; all for None."""
    return [one for one in history if now is None or one.when <= now]


def merged(*parts: Iterable[PersonaLine]) -> tuple[PersonaLine, ...]:
    """Return the lines of several parts in order, each statement once, as it stood first."""
    lines: dict[str, PersonaLine] = {}
    for part in parts:
        for line in part:
            lines.setdefault(line.id, line)
    return tuple(lines.values())


def _held(one: Fact, now: datetime | None) -> bool:
    return one.valid_until is None if now is None else one.holds(now)

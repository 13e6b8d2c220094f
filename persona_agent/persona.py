"""The persona: a short, versioned document of lines about one person.

It is not a blob. Each line has its evidence, can be locked by the user, and lives or dies by
itself. The functions here are pure; storing versions is the store's work.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.sensitive import WordLists, check_not_sensitive
from persona_agent.types import Record, Scope, check_text

MAX_LINES = 24
MAX_LINE_CHARS = 240
MAX_CHARS = 1600
MAX_EVIDENCE = 24

Origin: TypeAlias = Literal[
    "user", "statistics", "summary", "miner", "gradient", "recommender", "fact", "adapter"
]

LINK = re.compile(r"https?://|www\.|\bmailto:|\b[\w.+-]+@[\w-]+\.\w", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PersonaLine(Record):
    """One statement about a person, with the ids of the interactions that support it.

    The id follows from the text, so the same statement is the same line in every version.
    """

    text: str
    evidence: tuple[str, ...] = ()
    origin: Origin = "user"
    locked: bool = False

    def __post_init__(self) -> None:
        check_line(self.text)
        object.__setattr__(self, "evidence", tuple(self.evidence)[:MAX_EVIDENCE])

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that follow from the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Persona(Record):
    """What is known about one person, as a document of lines.

    `version` counts from 1 within the user; 0 is the empty persona that nobody stored.
    `seen_id` and `seen_until` are the id and the time of the latest interaction that took part
    in proposing or gating it: what gates a further change must be later. `scores` are the gate's
    measurements.
    """

    scope: Scope
    lines: tuple[PersonaLine, ...] = ()
    version: int = 0
    parent: int | None = None
    origin: Literal["empty", "start", "alignment", "user", "rollback"] = "empty"
    note: str = ""
    seen_id: str | None = None
    seen_until: datetime | None = None
    created: datetime | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(self.lines))
        if len({line.id for line in self.lines}) != len(self.lines):
            raise ValueError("a persona cannot hold the same line twice")
        if len(self.lines) > MAX_LINES:
            raise ValueError(f"a persona has {len(self.lines)} lines; at most {MAX_LINES} fit")
        size = sum(len(line.text) for line in self.lines)
        if size > MAX_CHARS:
            raise ValueError(f"a persona has {size} characters; at most {MAX_CHARS} fit")

    def __str__(self) -> str:
        head = f"persona of {prompts.as_data(self.scope.user, 80)}, version {self.version} ({self.origin})"
        return "\n".join([head, *(f"  {describe(line)}" for line in self.lines)])

    def line(self, id_or_text: str) -> PersonaLine:
        """Return the line with this id or text; raises KeyError naming the known ids."""
        for line in self.lines:
            if id_or_text in (line.id, line.text):
                return line
        known = ", ".join(line.id for line in self.lines) or "none"
        raise KeyError(f"no line {id_or_text!r} in version {self.version}; its lines are {known}")

    def with_locked(self, id_or_text: str, locked: bool) -> Persona:
        """Return this persona with one line locked or unlocked."""
        target = self.line(id_or_text)
        lines = tuple(
            replace(line, locked=locked) if line.id == target.id else line for line in self.lines
        )
        return replace(self, lines=lines)


def describe(line: PersonaLine) -> str:
    """Return a line as people read it: its id, lock, text, and where it comes from."""
    lock = "*" if line.locked else " "
    count = len(line.evidence)
    proof = f"{line.origin}, {count} interactions" if count else line.origin
    return f"{line.id}{lock} {line.text}  [{proof}]"


def check_line(text: str) -> str:
    """Return `text` if it can be a persona line.

    One line, not empty, at most 240 characters, without links or addresses: a persona is part of
    the system prompt of every later answer, so nothing that acts may enter it. Raises ValueError.
    """
    check_text(text, "a persona line")
    if not text.strip():
        raise ValueError("a persona line is empty; write a statement about the person")
    if text != prompts.as_data(text, MAX_LINE_CHARS + 1):
        raise ValueError(
            f"persona line {text[:60]!r} has line breaks, double spaces, control characters or "
            "angle brackets; write it as one plain line"
        )
    if len(text) > MAX_LINE_CHARS:
        raise ValueError(
            f"persona line {text[:60]!r}… has {len(text)} characters; at most {MAX_LINE_CHARS} fit"
        )
    if LINK.search(text):
        raise ValueError(f"persona line {text[:60]!r} holds a link or an address; leave it out")
    return text


def clean_lines(
    texts: Iterable[str],
    origin: Origin,
    evidence: Sequence[str],
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
) -> tuple[list[PersonaLine], list[str]]:
    """Return the lines that can be made of free text, and why each other text was left out.

    What touches a sensitive category, such as health or religion, is left out too, unless
    `sensitive` lets it in; `words` say what is, by default the lists that ship.
    """
    lines: list[PersonaLine] = []
    refused: list[str] = []
    seen: set[str] = set()
    for text in texts:
        plain = prompts.as_data(text, MAX_LINE_CHARS).lstrip("-*• ").strip()
        try:
            line = PersonaLine(_sober(plain), tuple(evidence), origin)
            if not sensitive:
                check_not_sensitive(line.text, words)
        except ValueError as error:
            refused.append(str(error))
            continue
        if line.id not in seen:
            seen.add(line.id)
            lines.append(line)
    return lines, refused


def _sober(text: str) -> str:
    """Return `text` unless it repeats itself, as small models do when they run on."""
    words = text.casefold().split()
    if len(words) > 8 and len(set(words)) < 0.6 * len(words):
        raise ValueError(f"{text[:60]!r} repeats itself")
    return text


def fit(lines: Sequence[PersonaLine], old: Persona) -> tuple[PersonaLine, ...]:
    """Return `lines` made into a legal successor of `old`.

    Locked lines of `old` stand first, as they were; repeated lines are dropped; then, from the
    end, unlocked lines that exceed the bounds on number and length.
    """
    kept = [line for line in old.lines if line.locked]
    room = MAX_CHARS - sum(len(line.text) for line in kept)
    seen = {line.id for line in kept}
    known = {line.id: line for line in old.lines}
    for line in lines:
        if line.id in seen or len(kept) == MAX_LINES or len(line.text) > room:
            continue
        seen.add(line.id)
        room -= len(line.text)
        kept.append(known.get(line.id, line))
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Diff(Record):
    """What changed between two versions of a persona."""

    old_version: int
    new_version: int
    added: tuple[PersonaLine, ...]
    removed: tuple[PersonaLine, ...]
    locked: tuple[PersonaLine, ...]
    unlocked: tuple[PersonaLine, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.locked or self.unlocked)

    def __str__(self) -> str:
        rows = [f"- {describe(line)}" for line in self.removed]
        rows += [f"+ {describe(line)}" for line in self.added]
        rows += [f"  locked {describe(line)}" for line in self.locked]
        rows += [f"  unlocked {describe(line)}" for line in self.unlocked]
        head = f"version {self.old_version} to {self.new_version}"
        return "\n".join([f"{head}: no change" if not rows else head, *rows])


def diff(old: Persona, new: Persona) -> Diff:
    """Return what `new` adds to, removes from, locks and unlocks in `old`."""
    before = {line.id: line for line in old.lines}
    after = {line.id: line for line in new.lines}
    both = [(before[i], line) for i, line in after.items() if i in before]
    return Diff(
        old.version,
        new.version,
        added=tuple(line for i, line in after.items() if i not in before),
        removed=tuple(line for i, line in before.items() if i not in after),
        locked=tuple(b for a, b in both if b.locked and not a.locked),
        unlocked=tuple(b for a, b in both if a.locked and not b.locked),
    )


def render(lines: Sequence[PersonaLine]) -> str:
    """Return the lines as they stand in a prompt; empty for no lines."""
    return "\n".join(f"- {line.text}" for line in lines)

"""Export and import: all that is kept about one user, as lines of JSON.

The first line says what the file is; each other line is an event, a fact, a summary or a
persona version. Vectors are not in it: they are made again. Importing twice is importing once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast, get_args

from sqlalchemy import insert

from persona_agent.errors import InputError
from persona_agent.memory.fact_reading import read_facts
from persona_agent.memory.fact_rows import write_merge
from persona_agent.memory.facts import KINDS, Merge
from persona_agent.memory.rows import microseconds, owner_of
from persona_agent.memory.schema import personas
from persona_agent.memory.screen import Trust
from persona_agent.memory.snapshot import Snapshot
from persona_agent.memory.store import Store
from persona_agent.memory.summaries import LINES, Summary
from persona_agent.memory.summary_rows import read_summaries, write_summaries
from persona_agent.persona import check_line
from persona_agent.types import Fact, Interaction, Record, Scope

FORMAT = "persona_agent export 1"


@dataclass(frozen=True, slots=True)
class Imported(Record):
    """How much of each kind was new."""

    events: int
    facts: int
    personas: int
    summaries: int = 0


@dataclass(frozen=True, slots=True)
class _Content:
    """A file's content, read and checked."""

    events: list[tuple[Trust, Interaction]]
    facts: list[Fact]
    personas: list[Mapping[str, Any]]  # Any: a persona version's fields, checked by name and type
    summaries: list[Summary]


def export(store: Store, scope: Scope) -> Iterator[str]:
    """Give the lines of a user's export, as the store held it at one moment."""
    owner = owner_of(scope)
    with store.database.read() as connection:
        snapshot = Snapshot(connection)
        yield _line("head", format=FORMAT, user=scope.user, tenant=scope.tenant)
        found = snapshot.find(scope.owner)
        for start in range(0, len(found), 1000):
            some = found[start : start + 1000]
            rows = snapshot.rows(owner, [one.id for one in some])
            for one in some:
                yield _line("event", trust=rows[one.id]["trust"], **_plain(one))
        for fact in read_facts(connection, owner):
            yield _line("fact", **_plain(fact))
        for summary in _parts_first(read_summaries(connection, owner)):
            yield _line("summary", **_plain(summary))
        for version in reversed(snapshot.personas(scope)):
            yield _line("persona", **_plain(version))


def import_(
    store: Store,
    lines: Iterable[str],
    now: datetime,
    *,
    scope: Scope | None = None,
    trusted: bool = False,
) -> Imported:
    """Store what `export` gave, by default for the user it was taken from.

    Events that are there already are skipped; facts, summaries and personas are taken over only if
    the user has none. Imported events have the trust "import", so nothing is made of them by itself;
    `trusted` gives them back the trust they had, for a file that nobody can have changed.

    Raises InputError, naming the line, for a file that is not an export: then nothing is stored.
    """
    whose, content = _read(lines, scope)
    kept: tuple[Trust, ...] = get_args(Trust) if trusted else ("import",)
    added = 0
    for trust in kept:
        some = [one for had, one in content.events if had == trust or not trusted]
        for start in range(0, len(some), 1000):
            done = store.add(some[start : start + 1000], now=now, trust=trust)
            added += sum(one.event == "ADD" for one in done)
    owner = owner_of(whose)
    facts = versions = summed = 0
    with store.database.write() as connection:
        store.lock(connection, owner)
        snapshot = Snapshot(connection)
        there = set(snapshot.rows(owner, [e for one in content.facts for e in one.evidence]))
        if content.facts and not read_facts(connection, owner):
            new = [one for one in content.facts if there.issuperset(one.evidence)]
            write_merge(connection, owner, Merge(tuple(new)), now)
            facts = len(new)
        if content.summaries and not read_summaries(connection, owner):
            cited = snapshot.rows(owner, [e for one in content.summaries for e in one.events])
            whole = _whole(content.summaries, set(cited))
            write_summaries(connection, owner, whole, now)
            summed = len(whole)
        known = snapshot.heads([owner])
        if content.personas and known and snapshot.persona(whose) is None:
            base = {"tenant": owner[0], "user": owner[1]}
            rows = [{**base, **one, "document": _moved(one, whose)} for one in content.personas]
            connection.execute(insert(personas), rows)
            versions = len(rows)
    return Imported(added, facts, versions, summed)


def _read(lines: Iterable[str], scope: Scope | None) -> tuple[Scope, _Content]:
    content = _Content([], [], [], [])
    whose = scope
    begun = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            kind = value.pop("type")
            if not begun:
                if kind != "head" or value["format"] != FORMAT:
                    raise ValueError(f"the first line must say {FORMAT!r}")
                whose = scope or Scope(value["user"], value["tenant"])
                begun = True
            elif whose is not None:
                _take(content, kind, value, whose)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"line {number} is not of an export: {what}") from error
    if whose is None or not begun:
        raise InputError("the export is empty; nothing was imported")
    return whose, content


def _take(content: _Content, kind: str, value: dict[str, Any], whose: Scope) -> None:
    """Add a line's value to the content; Any: as JSON gives it. Raises for what is no such value."""
    if kind == "event":
        trust = value.pop("trust")
        if trust not in get_args(Trust):
            raise ValueError(f"trust is {trust!r}; it must be one of {', '.join(get_args(Trust))}")
        had = value.pop("scope")
        own = Scope(whose.user, whose.tenant, had["agent"], had["run"])
        when = datetime.fromisoformat(value.pop("when"))
        content.events.append((cast(Trust, trust), Interaction(own, when, **value)))
    elif kind == "fact":
        if value["kind"] not in KINDS or not isinstance(value["text"], str):
            raise ValueError(f"a fact is of kind {value['kind']!r}, its text {value['text']!r}")
        until = value.pop("valid_until")
        content.facts.append(
            Fact(
                evidence=tuple(value.pop("evidence")),
                confidence=float(value.pop("confidence")),
                valid_from=datetime.fromisoformat(value.pop("valid_from")),
                valid_until=None if until is None else datetime.fromisoformat(until),
                **value,
            )
        )
    elif kind == "summary":
        content.summaries.append(_summary(value))
    elif kind == "persona":
        names = ("origin", "note", "document", "scores")
        row: dict[str, Any] = {name: str(value[name]) for name in names}
        row |= {"version": int(value["version"]), "parent": value["parent"]}
        row["created"] = microseconds(datetime.fromisoformat(value["created"]))
        content.personas.append(row)
    else:
        raise ValueError(f"its type is {kind!r}; it must be event, fact, summary or persona")


def _summary(value: dict[str, Any]) -> Summary:
    """Return a summary as JSON gives it (Any); raises for what is none."""
    if value["level"] not in LINES:
        raise ValueError(
            f"a summary's level is {value['level']!r}; it must be one of {', '.join(LINES)}"
        )
    until = value.pop("valid_until")
    lines, events, parts = (
        tuple(map(str, value.pop(name))) for name in ("lines", "events", "parts")
    )
    return Summary(
        lines=tuple(check_line(line) for line in lines),
        events=events,
        parts=parts,
        valid_from=datetime.fromisoformat(value.pop("valid_from")),
        valid_until=None if until is None else datetime.fromisoformat(until),
        **value,
    )


def _parts_first(every: Sequence[Summary]) -> list[Summary]:
    """Return summaries in an order in which each comes after what it was made of."""
    waiting = list(every)
    there: set[str] = set()
    order: list[Summary] = []
    while ready := [one for one in waiting if there.issuperset(one.parts)]:
        order += ready
        there |= {one.id for one in ready}
        waiting = [one for one in waiting if one.id not in there]
    return order


def _whole(every: Sequence[Summary], events: Collection[str]) -> list[Summary]:
    """Return, parts first, the summaries all of whose events are there, and parts, and successor."""
    each = {one.id: one for one in every if one.events or one.parts}
    good = _parts_first([one for one in each.values() if set(one.events) <= set(events)])
    there = {one.id for one in good}
    return [
        one
        if one.superseded_by is None or one.superseded_by in there
        else replace(one, valid_until=None, superseded_by=None)
        for one in good
    ]


def _moved(row: Mapping[str, Any], whose: Scope) -> str:
    """Return a persona's document as one of this user."""
    document = json.loads(row["document"])
    if isinstance(document, dict) and isinstance(document.get("scope"), dict):
        document["scope"] |= {"user": whose.user, "tenant": whose.tenant}
    return json.dumps(document, ensure_ascii=False)


def _plain(value: Record) -> dict[str, Any]:
    return cast("dict[str, Any]", value.to_json())


def _line(kind: str, /, **fields: object) -> str:
    return json.dumps({"type": kind, **fields}, ensure_ascii=False)

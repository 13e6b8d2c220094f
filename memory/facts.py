"""Facts: what events mean, each with its evidence, its confidence and the time it holds.

`extract` is a program: it asks a model and returns drafts, or raises ReplyFormatError; it writes
nothing. `merge` is pure: it says what the drafts add, repeat and close beside what is known. A
fact that is contradicted is closed and names its successor; none is destroyed on a model's word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args

from persona_agent import prompts
from persona_agent.errors import BackendError, ReplyFormatError
from persona_agent.memory.statement import statement
from persona_agent.program import Program, complete
from persona_agent.sensitive import WordLists
from persona_agent.types import (
    Fact,
    FactKind,
    Interaction,
    Json,
    ModelReply,
    ModelRequest,
    Record,
    Sampling,
)

KINDS: tuple[FactKind, ...] = get_args(FactKind)

MAX_FACTS = 8  # of one request
MAX_EVENTS = 12  # shown in one request
MAX_KNOWN = 30
MAX_CLOSED = 4  # by one request: a model that contradicts more is not believed

# What the assistant put into a prompt comes back in transcripts; it is not the user's word.
INJECTED = re.compile(
    r"<(memories|result|persona|facts|events)>[\s\S]*?(?:</\1>|\Z)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class FactDraft(Record):
    """A fact as a model proposes it, and the ids of the facts that it makes untrue."""

    kind: FactKind
    text: str
    evidence: tuple[str, ...]
    confidence: float
    closes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extraction(Record):
    """The drafts of one request, and why others were left out."""

    drafts: tuple[FactDraft, ...]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Learned(Record):
    """The facts that a history leaves, those that hold no more too, and what was left out."""

    facts: tuple[Fact, ...]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge(Record):
    """What drafts do: facts that are new, facts that are closed, evidence that is added."""

    new: tuple[Fact, ...] = ()
    closed: tuple[Fact, ...] = ()
    repeated: tuple[tuple[str, str], ...] = ()


def own_words(events: Sequence[Interaction]) -> list[Interaction]:
    """Return what of these events the user wrote or did: no other role, no text of ours in it."""
    own: list[Interaction] = []
    for one in events:
        query = INJECTED.sub(" ", one.query).strip()
        if one.role == "user" and (query or one.outcome):
            own.append(replace(one, query=query))
    return own


def extract(
    events: Sequence[Interaction],
    known: Sequence[Fact],
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
) -> Program[Extraction]:
    """Return the facts that a model finds in a user's own events, at most MAX_EVENTS at a time.

    What is `sensitive` by `words`, by default the lists that ship, is left out unless let in.
    Raises BackendError if the model does not answer, ReplyFormatError if any of its answers is
    not of the form asked for: then nothing of them is to be used.
    """
    own = own_words(events)
    shown = list(known)[-MAX_KNOWN:]
    blocks = [own[i : i + MAX_EVENTS] for i in range(0, len(own), MAX_EVENTS)]
    if not blocks:
        return Extraction(())
    replies = yield from complete([_request(block, shown) for block in blocks])
    drafts: list[FactDraft] = []
    refused: list[str] = []
    for block, reply in zip(blocks, replies, strict=True):
        for draft in read_reply(reply, block, shown):
            try:
                drafts.append(_fit(draft, sensitive, words))
            except ValueError as error:
                refused.append(str(error))
    return Extraction(tuple(drafts), tuple(refused))


def learn(
    events: Sequence[Interaction],
    *,
    sensitive: bool = False,
    words: WordLists | None = None,
) -> Program[Learned]:
    """Return the facts that a history in time order leaves, as a store would hold them after it.

    Without a store: block after block of MAX_EVENTS, each shown what is known by then, so that
    later words can contradict earlier ones. A block whose answer is malformed teaches nothing, and
    is told of. Raises BackendError if the model does not answer.
    """
    own = own_words(events)
    by_id = {one.id: one for one in own}
    known: list[Fact] = []
    refused: list[str] = []
    for start in range(0, len(own), MAX_EVENTS):
        block = own[start : start + MAX_EVENTS]
        held = [one for one in known if one.valid_until is None]
        try:
            found = yield from extract(block, held, sensitive=sensitive, words=words)
        except ReplyFormatError as error:
            refused.append(str(error))
            continue
        refused += found.refused
        known = merged(known, merge(known, found.drafts, by_id))
    return Learned(tuple(known), tuple(refused))


def merged(known: Sequence[Fact], found: Merge) -> list[Fact]:
    """Return what is known after a merge, oldest first."""
    after = {one.id: one for one in (*known, *found.new, *found.closed)}
    for fact, event in found.repeated:
        after[fact] = replace(after[fact], evidence=(*after[fact].evidence, event))
    return sorted(after.values(), key=lambda one: (one.valid_from, one.id))


def read_reply(
    reply: ModelReply, events: Sequence[Interaction], known: Sequence[Fact]
) -> list[FactDraft]:
    """Return the drafts of one reply; raises BackendError or ReplyFormatError, saying what is wrong."""
    if reply.error is not None:
        kind = ReplyFormatError if reply.error.startswith("ReplyFormatError") else BackendError
        raise kind(f"no facts could be extracted: {reply.error}")
    if reply.finish != "stop":
        raise ReplyFormatError(f"the facts were cut off (finish is {reply.finish!r})")
    if reply.salvaged:  # what was dropped may be what makes the rest untrue
        raise ReplyFormatError(f"the facts are not whole: {'; '.join(reply.salvaged)}")
    parsed = reply.parsed
    if not isinstance(parsed, dict) or not isinstance(parsed.get("facts"), list):
        raise ReplyFormatError(f"an object with a list of facts was due, not {reply.text[:80]!r}")
    items = parsed["facts"]
    if not isinstance(items, list) or len(items) > MAX_FACTS:
        raise ReplyFormatError(f"the answer has more than {MAX_FACTS} facts")
    drafts = [_draft(item, events, known) for item in items]
    closed = {one for draft in drafts for one in draft.closes}
    if len(closed) > MAX_CLOSED:
        raise ReplyFormatError(
            f"the answer makes {len(closed)} known facts untrue; more than {MAX_CLOSED} at once "
            "are not believed"
        )
    return drafts


def merge(
    known: Sequence[Fact], drafts: Sequence[FactDraft], events: Mapping[str, Interaction]
) -> Merge:
    """Return what drafts do to what is known, given the events that are still there.

    A draft some of whose evidence is gone is dropped: what is gone may be what it says. One that says what is said already adds
    its evidence. One that closes a fact of its kind ends it at the time of its own evidence; if
    it is the older of the two, it is itself what has ended.
    """
    by_id = {one.id: one for one in known}
    current = {one.id: one for one in known if one.valid_until is None}
    new: dict[str, Fact] = {}
    closed: dict[str, Fact] = {}
    repeated: dict[tuple[str, str], None] = {}
    for draft in drafts:
        proof = tuple(dict.fromkeys(draft.evidence))
        if not proof or any(one not in events for one in proof):
            continue
        same = [one for one in current.values() if said(one.text) == said(draft.text)]
        if same:
            repeated |= {
                (same[0].id, event): None for event in proof if event not in same[0].evidence
            }
            continue
        since = max(events[one].when for one in proof)
        fact = Fact(_id(draft, since), draft.kind, draft.text, proof, draft.confidence, since)
        if fact.id in by_id:
            continue
        for one in draft.closes:
            old = current.get(one)
            if old is None or old.kind != draft.kind or old.id in new:
                continue
            if old.valid_from <= since:
                closed[old.id] = replace(old, valid_until=since, superseded_by=fact.id)
                del current[old.id]
            else:
                fact = replace(fact, valid_until=old.valid_from, superseded_by=old.id)
        new[fact.id] = by_id[fact.id] = fact
        if fact.valid_until is None:
            current[fact.id] = fact
    return Merge(tuple(new.values()), tuple(closed.values()), tuple(repeated))


def said(text: str) -> str:
    """Return what two statements that say the same have in common.

    >>> said("Likes  short films.") == said("likes short films")
    True
    """
    return " ".join(re.findall(r"\w+", text.casefold()))


def _id(draft: FactDraft, since: datetime) -> str:
    text = f"{draft.kind}\n{said(draft.text)}\n{since.isoformat()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fit(draft: FactDraft, sensitive: bool, words: WordLists | None) -> FactDraft:
    """Return a draft that may become a fact; raises ValueError for one that may not."""
    text = statement(draft.text, sensitive=sensitive, words=words, what="a fact")
    return replace(draft, text=text)


def _draft(item: Json, events: Sequence[Interaction], known: Sequence[Fact]) -> FactDraft:
    if not isinstance(item, dict):
        raise ReplyFormatError(f"a fact must be an object, not {item!r}")
    text, kind, confidence = item.get("text"), item.get("kind"), item.get("confidence")
    if not isinstance(text, str) or not text.strip():
        raise ReplyFormatError(f"a fact has no text: {item!r}")
    if kind not in KINDS:
        raise ReplyFormatError(f"a fact is of kind {kind!r}; it must be one of {', '.join(KINDS)}")
    if (
        isinstance(confidence, bool)
        or not isinstance(confidence, (int, float))
        or not 0 <= confidence <= 1
    ):
        raise ReplyFormatError(f"the confidence of {text[:40]!r} is {confidence!r}, not 0 to 1")
    proof = _numbered(item.get("events"), len(events), "events")
    if not proof:
        raise ReplyFormatError(f"{text[:40]!r} names no event that says so")
    closes = _numbered(item.get("untrue", []), len(known), "known facts")
    return FactDraft(
        KINDS[KINDS.index(kind)],
        text,
        tuple(events[i].id for i in proof),
        float(confidence),
        tuple(known[i].id for i in closes),
    )


def _numbered(value: Json, count: int, what: str) -> list[int]:
    """Return the places, from 0, of the numbers, from 1, that a model gave."""
    if not isinstance(value, list):
        raise ReplyFormatError(f"the numbers of {what} are {value!r}; a list was due")
    places: list[int] = []
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= count:
            raise ReplyFormatError(f"there is no number {number!r} among {count} {what}")
        places.append(number - 1)
    return places


def _request(events: Sequence[Interaction], known: Sequence[Fact]) -> ModelRequest:
    lines = [f"{i}. {prompts.as_data(_shown(one), 400)}" for i, one in enumerate(events, start=1)]
    facts = [f"{i}. {prompts.as_data(one.text)}" for i, one in enumerate(known, start=1)]
    messages = prompts.messages(
        "facts",
        known="\n".join(facts) or "none",
        events="\n".join(lines),
        count=str(MAX_FACTS),
    )
    return ModelRequest(
        messages, Sampling(max_tokens=600), schema=_schema(len(events), len(known)), purpose="facts"
    )


def _shown(one: Interaction) -> str:
    return one.query if one.outcome is None else f"{one.query} — {one.outcome}"


def _schema(events: int, known: int) -> dict[str, Json]:
    fields: dict[str, Json] = {
        "text": {"type": "string", "minLength": 1, "maxLength": 200},
        "kind": {"enum": list(KINDS)},
        "events": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": events},
            "minItems": 1,
            "maxItems": MAX_EVENTS,
        },
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "untrue": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": max(1, known)},
            "maxItems": MAX_CLOSED if known else 0,
        },
    }
    item: Json = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"facts": {"type": "array", "items": item, "maxItems": MAX_FACTS}},
        "required": ["facts"],
        "additionalProperties": False,
    }

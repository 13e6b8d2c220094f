"""The state of a conversation: what was said, asked and shown. JSON both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from persona_agent.errors import InputError
from persona_agent.prompts import as_data
from persona_agent.types import Record, check_id

# What an answer means, and what is thought of an attribute or an item.
Meaning: TypeAlias = Literal["yes", "no", "unsure", "other"]
Target: TypeAlias = Literal["attribute", "item"]
# What the last thing said waits for: an open answer, an attribute's, a list's, or which of a list.
Awaits: TypeAlias = Literal["anything", "attribute", "items", "which", "nothing"]
# How it stands: under way, an item was accepted, the person left, nothing is left to recommend.
Outcome: TypeAlias = Literal["open", "accepted", "left", "exhausted"]

MEANINGS: tuple[Meaning, ...] = get_args(Meaning)
VERSION = 1
MAX_WORDS = 200  # characters of a person's words that an opinion keeps


@dataclass(frozen=True, slots=True)
class Opinion(Record):
    """What a person thinks of an attribute or item, the turn it was said in, and their words.

    Turn 0 is before this conversation. Of an item, "yes" is one they know and like, "no" one they
    do not want now.
    """

    target: Target
    id: str
    meaning: Meaning
    turn: int
    words: str = ""

    def __post_init__(self) -> None:
        if self.target not in get_args(Target):
            raise ValueError(f"target is {self.target!r}; it must be attribute or item")
        if self.meaning not in ("yes", "no", "unsure"):
            raise ValueError(f"an opinion is {self.meaning!r}; it must be yes, no or unsure")
        if self.turn < 0:
            raise ValueError(f"turn is {self.turn}; it must be 0 or more")
        check_id(self.id, f"{self.target} id")
        object.__setattr__(self, "words", as_data(self.words, MAX_WORDS))

    @property
    def remembered(self) -> bool:
        """Whether it is from before this conversation."""
        return self.turn == 0


@dataclass(frozen=True, slots=True)
class ChatState(Record):
    """A conversation: immutable; each turn makes the next.

    There is one opinion a target, the latest. `asked` are the attributes asked about, `shown` the
    items recommended, in order. `pending` are the ids that the last question or list was about.
    `questions` counts questions since the last list, `missed` answers in a row that were not
    understood. `accepted` is the item of the outcome "accepted".
    """

    domain: str
    conversation: str
    turn: int = 0
    opinions: tuple[Opinion, ...] = ()
    awaits: Awaits = "anything"
    pending: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    questions: int = 0
    missed: int = 0
    outcome: Outcome = "open"
    accepted: str | None = None

    def __post_init__(self) -> None:
        check_id(self.domain, "domain")
        check_id(self.conversation, "conversation id")
        if problem := self._problem():
            raise ValueError(f"this is no state of a conversation: {problem}")

    def _problem(self) -> str | None:
        """Return what is inconsistent, None if nothing is."""
        if self.awaits not in get_args(Awaits) or self.outcome not in get_args(Outcome):
            return f"awaits is {self.awaits!r} and outcome {self.outcome!r}"
        if min(self.turn, self.questions, self.missed) < 0:
            return "a count is negative"
        targets = [(one.target, one.id) for one in self.opinions]
        if len(set(targets)) != len(targets):
            return "there are two opinions of one thing"
        if any(one.turn > self.turn for one in self.opinions):
            return f"an opinion is from a turn after {self.turn}"
        for name, ids in (("asked", self.asked), ("shown", self.shown)):
            if len(set(ids)) != len(ids):
                return f"something was {name} twice"
        known = {"attribute": self.asked, "items": self.shown, "which": self.shown}
        if not set(self.pending) <= set(known.get(self.awaits, ())):
            return f"what is pending was never {'asked' if self.awaits == 'attribute' else 'shown'}"
        if bool(self.pending) != (self.awaits in known):
            return f"it awaits {self.awaits}, and {len(self.pending)} things are pending"
        if (self.outcome == "accepted") != (self.accepted is not None):
            return f"the outcome is {self.outcome!r}, the item accepted {self.accepted!r}"
        return None

    @classmethod
    def of(cls, value: object) -> ChatState:
        """Return the state that `to_json` wrote; raises InputError for anything else."""
        if not isinstance(value, Mapping):
            raise InputError(f"a conversation's state must be an object, not {value!r:.80}")
        given: dict[str, Any] = dict(value)  # Any: foreign data, checked below
        version = given.pop("version", None)
        if version != VERSION:
            raise InputError(f"the state is of version {version!r}; this reads version {VERSION}")
        try:
            given["opinions"] = tuple(Opinion(**one) for one in given.get("opinions", ()))
            given |= {name: _ids(given.get(name, ())) for name in ("pending", "asked", "shown")}
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise InputError(f"the conversation's state cannot be read: {error}") from error

    def to_json(self) -> Any:  # Any: Json, which mypy cannot spread
        """Return this as plain JSON data, with its version."""
        return {"version": VERSION, **Record.to_json(self)}  # type: ignore[dict-item]

    def opinion(self, target: Target, one: str) -> Opinion | None:
        """Return what was said of this, if anything was."""
        found = [o for o in self.opinions if (o.target, o.id) == (target, one)]
        return found[0] if found else None

    def thinks(self, target: Target, meaning: Meaning) -> tuple[str, ...]:
        """Return the ids of which this is thought, oldest opinion first."""
        return tuple(
            one.id for one in self.opinions if one.target == target and one.meaning == meaning
        )


def heard(state: ChatState, opinions: Iterable[Opinion]) -> ChatState:
    """Return the state with new opinions; each takes the place of the last of the same thing."""
    kept = {(one.target, one.id): one for one in state.opinions}
    for one in opinions:
        kept.pop((one.target, one.id), None)  # the newest stand last
        kept[one.target, one.id] = one
    return replace(state, opinions=tuple(kept.values()))


def asking(state: ChatState, attribute: str) -> ChatState:
    """Return the state after a question about an attribute."""
    asked = (*(one for one in state.asked if one != attribute), attribute)
    return replace(
        state,
        awaits="attribute",
        pending=(attribute,),
        asked=asked,
        questions=state.questions + 1,
    )


def showing(state: ChatState, items: Sequence[str]) -> ChatState:
    """Return the state after a list of items."""
    if not items:
        raise ValueError("there are no items to show; say that nothing is left")
    shown = (*(one for one in state.shown if one not in set(items)), *items)
    return replace(state, awaits="items", pending=tuple(items), shown=shown, questions=0)


def waiting(state: ChatState, awaits: Literal["anything", "nothing"]) -> ChatState:
    """Return the state after something that asks about nothing in particular."""
    return replace(state, awaits=awaits, pending=())


def anew(state: ChatState) -> ChatState:
    """Return the state of the same conversation begun again: only what was remembered stays."""
    kept = tuple(one for one in state.opinions if one.remembered)
    return ChatState(state.domain, state.conversation, state.turn, kept)


def _ids(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{value!r:.80} is not a list of ids")
    return tuple(value)

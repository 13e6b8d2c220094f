"""The nouns: what happened, who somebody is, what is asked of the outside and what comes back.

Frozen, slotted dataclasses, checked when they are made and trusted afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
FloatArray: TypeAlias = npt.NDArray[np.float32]
Role: TypeAlias = Literal["user", "assistant", "tool", "system"]
RecallMode: TypeAlias = Literal["recent", "similar", "hybrid"]
RecallKind: TypeAlias = Literal["event", "fact"]
FactKind: TypeAlias = Literal["preference", "habit", "goal", "background"]

# PostgreSQL keeps at most 2,700 bytes in a row of an index, and a key is up to four ids long.
MAX_ID_BYTES = 512
ROLES: tuple[Role, ...] = ("user", "assistant", "tool", "system")
RECALL_KINDS: tuple[RecallKind, ...] = ("event", "fact")


def check_id(value: str, what: str) -> str:
    """Return `value` if it can serve as an id, which is any text but the empty one.

    Ids are opaque: quotes, slashes, spaces and control characters are fine. NUL and lone
    surrogates are not, because PostgreSQL and UTF-8 cannot hold them, nor is anything above
    512 bytes. Raises TypeError or ValueError saying which.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is {value!r}; it must be a string")
    if not value:
        raise ValueError(f"{what} is empty; give a non-empty string")
    if "\x00" in value:
        raise ValueError(f"{what} {value!r} contains NUL, which databases cannot hold; remove it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} {value!r} is not valid Unicode: {error.reason}") from error
    if size > MAX_ID_BYTES:
        raise ValueError(f"{what} has {size} bytes; at most {MAX_ID_BYTES} are allowed")
    return value


def check_text(value: str, what: str) -> str:
    """Return `value` if a database can hold it as text; raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {value!r}; it must be a string")
    if "\x00" in value:
        raise ValueError(f"{what} contains NUL at position {value.index(chr(0))}; remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is not valid Unicode at position {error.start}") from error
    return value


def as_json(value: object) -> Json:
    """Return `value` as plain JSON data: dataclasses as objects, times as ISO 8601 in UTC.

    Raises TypeError for a value that has no JSON form.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        return as_json(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form")


class Record:
    """What results share: they convert to JSON."""

    __slots__ = ()

    def to_json(self) -> Json:
        """Return this as plain JSON data."""
        return as_json(self)


@dataclass(frozen=True, slots=True)
class Scope(Record):
    """Whose data: a tenant's user, and optionally which agent and which run produced it."""

    user: str
    tenant: str = "default"
    agent: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        check_id(self.user, "user id")
        check_id(self.tenant, "tenant id")
        if self.agent is not None:
            check_id(self.agent, "agent id")
        if self.run is not None:
            check_id(self.run, "run id")

    @property
    def owner(self) -> Scope:
        """This scope without agent and run: the person as a whole."""
        return Scope(self.user, self.tenant)


@dataclass(frozen=True, slots=True)
class Interaction(Record):
    """One thing that happened: what was asked or shown, and what the user really did or said.

    `when` carries a time zone and is kept in UTC. `outcome` is the truth to predict: a rating, a
    choice, the user's own words; None while it is unknown. `options` are what the user could have
    chosen from. `role` says who wrote `query`. An empty `id` is derived from the content, so that
    the same event added twice is one event.
    """

    scope: Scope
    when: datetime
    query: str
    outcome: str | None = None
    response: str | None = None
    role: Role = "user"
    item: str | None = None
    options: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=lambda: MappingProxyType({}))
    id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.when, datetime) or self.when.tzinfo is None:
            raise ValueError(
                f"when is {self.when!r}; it must be a datetime with a time zone, "
                "such as datetime.now(timezone.utc)"
            )
        object.__setattr__(self, "when", self.when.astimezone(UTC))
        if self.role not in ROLES:
            raise ValueError(f"role is {self.role!r}; it must be one of {', '.join(ROLES)}")
        check_text(self.query, "query")
        for name in ("outcome", "response", "item"):
            text = getattr(self, name)
            if text is not None:
                check_text(text, name)
        if not (self.query or self.outcome or self.response):
            raise ValueError(
                "an interaction needs a query, a response or an outcome; all are empty"
            )
        if isinstance(self.options, str):
            raise TypeError(f"options is the text {self.options!r}; give a sequence of texts")
        object.__setattr__(self, "options", tuple(self.options))
        if self.id:
            check_id(self.id, "interaction id")
        else:
            object.__setattr__(self, "id", self.content_id())

    def content_id(self) -> str:
        """Return the id that the content implies: 32 hexadecimal digits of its SHA-256."""
        content = (
            self.scope.tenant,
            self.scope.user,
            self.scope.agent,
            self.scope.run,
            self.when.isoformat(),
            self.role,
            self.query,
            self.response,
            self.outcome,
            self.item,
        )
        text = json.dumps(content, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def text(self) -> str:
        """What is embedded and searched: query, response and outcome, a line each."""
        return "\n".join(part for part in (self.query, self.response, self.outcome) if part)


@dataclass(frozen=True, slots=True)
class Fact(Record):
    """A statement about a user, the events it rests on, and from when until when it holds.

    `valid_from` is the time of the latest event that it rests on when it is made, so that it says
    nothing of later ones. `valid_until` is None while it holds; `superseded_by` names its
    successor.
    """

    id: str
    kind: FactKind
    text: str
    evidence: tuple[str, ...]
    confidence: float
    valid_from: datetime
    valid_until: datetime | None = None
    superseded_by: str | None = None

    def holds(self, at: datetime) -> bool:
        """Return whether this fact was held at a time."""
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)


@dataclass(frozen=True, slots=True)
class Explanation(Record):
    """Where a memory's score comes from; None for what took no part in it.

    `cosine` and `bm25` stand with the places they gave among the candidates, from 1; `share` is
    how much of the query's words the text says, from 0 to 1. `decay` and `salience` are the
    weights that multiplied the score; `rerank` is what a reranker put in its place. Before
    weights, `hybrid` scores (1 - w) (1 + cosine) / 2 + w `share`; w is `memory.ranking.WORDS`.
    """

    cosine: float | None = None
    cosine_rank: int | None = None
    bm25: float | None = None
    bm25_rank: int | None = None
    share: float | None = None
    decay: float = 1.0
    salience: float = 1.0
    rerank: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled(Record):
    """What came back from memory, with its score and the way it was found.

    It is an interaction, or it is a `fact`: then `interaction` is the latest event that the fact
    rests on. The fact is as it was known at the moment asked about: without later evidence, and
    without its end.
    """

    interaction: Interaction
    score: float
    mode: RecallMode
    explanation: Explanation | None = None
    fact: Fact | None = None

    @property
    def kind(self) -> RecallKind:
        """What this is."""
        return "event" if self.fact is None else "fact"

    @property
    def text(self) -> str:
        """What it says."""
        return self.interaction.text if self.fact is None else self.fact.text


@dataclass(frozen=True, slots=True)
class Message(Record):
    """One message of a chat, as a model sees it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling(Record):
    """How a model draws its tokens. Temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What work cost: model requests and their tokens. `cached_tokens` are part of the prompt's."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class ModelRequest(Record):
    """One thing to ask a model.

    A last message of role "assistant" is the beginning of the answer, which the model continues.
    With `template` false the messages are joined by blank lines and sent as plain text, which is
    how few-shot prompts are written.

    `schema` constrains the answer to JSON of that schema. `choices` asks for one of these
    continuations, and for the log-probability of each where the engine can tell.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: Mapping[str, Json] | None = None
    choices: tuple[str, ...] = ()
    template: bool = True
    adapter: str | None = None
    cache_salt: str | None = None
    purpose: str = "answer"

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("a model request needs at least one message")
        if self.schema is not None and self.choices:
            raise ValueError("give a schema or choices, not both")
        if len(set(self.choices)) != len(self.choices):
            raise ValueError(f"choices repeat: {self.choices!r}")
        if any(not choice for choice in self.choices):
            raise ValueError(f"a choice is empty: {self.choices!r}")


@dataclass(frozen=True, slots=True)
class ModelReply(Record):
    """What a model answered; `error` says why there is no answer, and is None when there is one.

    `parsed` is the JSON value of a request with a schema. `logprobs`, for a request with choices,
    holds the natural log-probability of each whole choice given the prompt, all its tokens, in
    the order of the choices; None where the engine cannot tell.

    `salvaged` tells what had to be repaired or dropped before `parsed` fitted the schema; such a
    value is not the whole of what the model said. It is empty where nothing had to.
    """

    text: str = ""
    parsed: Json = None
    logprobs: tuple[float, ...] | None = None
    finish: Literal["stop", "length", "error"] = "stop"
    usage: Usage = Usage()
    error: str | None = None
    salvaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecallRequest(Record):
    """Memories of one user: the `k` most recent, or those most like `query`.

    `similar` goes by meaning (cosine of vectors), `hybrid` by meaning and by words (BM25), in
    one score. `before` is the id of an interaction: only what happened earlier than it is
    recalled, never the interaction itself. `as_of` is a moment: only what happened up to then is
    recalled. `max_tokens` bounds the estimated length of all that comes back.

    A search may weigh what it finds: with `half_life` a memory counts half when it is that much
    older than `as_of`, else than the event `before`, else than the latest; with `salience` it
    counts by the number from 0 to 1 under "salience" in its metadata. With `explain` each memory
    says where its score comes from.

    `kinds` are what a search ranks together: events, which is the default, and facts. A fact is
    recalled if it was held at the moment asked about and all that it was made from is earlier;
    its age is counted from its `valid_from`, its salience is its confidence.
    """

    scope: Scope
    mode: RecallMode = "recent"
    query: str = ""
    k: int = 8
    max_tokens: int = 2048
    before: str | None = None
    as_of: datetime | None = None
    half_life: timedelta | None = None
    salience: bool = False
    explain: bool = False
    kinds: tuple[RecallKind, ...] = ("event",)

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(RECALL_KINDS):
            raise ValueError(f"kinds is {self.kinds!r}; it must name event, fact or both")
        if self.mode == "recent" and "fact" in self.kinds:
            raise ValueError("recent recalls events alone; facts are found by searches")
        if self.mode not in ("recent", "similar", "hybrid"):
            raise ValueError(f"mode is {self.mode!r}; it must be recent, similar or hybrid")
        if self.k < 0:
            raise ValueError(f"k is {self.k}; it must be 0 or more")
        if self.max_tokens < 0:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be 0 or more")
        if self.as_of is not None and self.as_of.tzinfo is None:
            raise ValueError(f"as_of is {self.as_of!r}; it must have a time zone")
        if self.half_life is not None and self.half_life <= timedelta(0):
            raise ValueError(f"half_life is {self.half_life}; it must be above 0")
        if self.mode == "recent" and (self.half_life is not None or self.salience):
            raise ValueError("half_life and salience weigh searches; recent goes by time alone")


@dataclass(frozen=True, slots=True)
class RecallReply(Record):
    """What was recalled: oldest first for `recent`, else best first.

    `error` says why nothing could be, and is None when it could.
    """

    memories: tuple[Recalled, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ToolRequest(Record):
    """A call of a tool by name, on behalf of a user."""

    scope: Scope
    name: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class ToolReply(Record):
    """What a tool answered, or why it could not."""

    text: str = ""
    error: str | None = None


Request: TypeAlias = ModelRequest | RecallRequest | ToolRequest
Reply: TypeAlias = ModelReply | RecallReply | ToolReply

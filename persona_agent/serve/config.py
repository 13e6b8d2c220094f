"""The server's configuration: from a TOML file, the environment and arguments; secrets masked.

An argument is taken before the environment, that before the file, that before the default. What
is not known is refused, with the place where it stands.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from persona_agent.errors import InputError
from persona_agent.memory.embed import EMBEDDERS
from persona_agent.memory.fact_rows import JOB as FACTS
from persona_agent.memory.index import MAX_BYTES
from persona_agent.memory.summary_rows import SUMMARY_JOB as SUMMARIES

PREFIX = "PERSONA_AGENT_SERVE_"
NEST = "__"
MASK = "********"
SHORTEST_SECRET = 24


class Part(BaseModel):
    """A part of the configuration: no unknown keys, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MemoryPart(Part):
    """What the chat path recalls and keeps."""

    recent: int = Field(default=2, ge=0, le=50, description="Latest memories shown to the model.")
    similar: int = Field(
        default=6, ge=0, le=50, description="Memories like the question, and facts."
    )
    max_tokens: int = Field(
        default=1024, ge=64, le=32_768, description="Bound of persona and memories."
    )
    summary: bool = Field(default=True, description="Show the user's summary, if there is one.")
    deadline_s: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="Longer than this, and the answer comes without memory.",
    )
    remember: bool = Field(default=True, description="Whether chat turns become memories.")
    implicit: bool = Field(
        default=True, description="Whether going on and asking again count as outcomes of a turn."
    )


class LearnPart(Part):
    """What is learned in the background, and what it may cost."""

    enabled: bool = Field(default=True, description="Whether this process learns at all.")
    facts: bool = Field(default=True, description="Extract facts from what users write.")
    summaries: bool = Field(default=False, description="Sum up what users write.")
    align: bool = Field(default=True, description="Align personas by themselves.")
    align_after: int = Field(
        default=20, ge=5, description="New outcomes of a user before an alignment by itself."
    )
    every_s: float = Field(default=2.0, gt=0, description="How often the keeper looks for work.")
    tokens_per_hour: int = Field(
        default=2_000_000, ge=0, description="What learning may ask of the model; 0 for no bound."
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of job that what users write asks for."""
        if not self.enabled:
            return ()
        return tuple(kind for kind, on in ((FACTS, self.facts), (SUMMARIES, self.summaries)) if on)


class JwtPart(Part):
    """How a token of your own sign-in is verified; off without a secret or a key set."""

    secret: SecretStr = Field(default=SecretStr(""), description="For HS256, HS384, HS512.")
    jwks_file: str = Field(default="", description="A file with a JSON web key set.")
    jwks_url: str = Field(
        default="", description="Its address, fetched again when a key is unknown."
    )
    algorithms: tuple[str, ...] = Field(
        default=(), description="By default HS256, or RS256 for key sets."
    )
    issuer: str = Field(default="", description="The `iss` that tokens must have.")
    audience: str = Field(default="", description="The `aud` that tokens must have.")
    user_claim: str = Field(default="sub", description="The claim that names the user.")
    tenant_claim: str = Field(
        default="", description="The claim that names the tenant, if one does."
    )
    leeway_s: float = Field(default=30, ge=0, le=600, description="How far clocks may differ.")

    @property
    def is_on(self) -> bool:
        """Whether tokens are accepted."""
        return bool(self.secret.get_secret_value() or self.jwks_file or self.jwks_url)


class RecommendPart(Part):
    """A recommender to serve; off without a folder."""

    folder: str = Field(default="", description="Where `save` wrote it.")
    items: str = Field(default="", description="CSV of items: item, title, year, genres by |.")
    noun: str = Field(default="item", description="What one item is called.")


class Config(Part):
    """All that the server can be told."""

    database: str = Field(default="persona.db", description="Database file or URL.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8321, ge=0, le=65535, description="Port; 0 lets the system choose.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes.")
    auth: Literal["on", "off"] = Field(default="on", description="off is for this machine alone.")
    tenant: str = Field(default="default", description="Tenant of whom no key or claim names one.")
    admin_key: SecretStr = Field(
        default=SecretStr(""), description="A key for many users and operators that is not stored."
    )
    llm: str = Field(default="local", description="The model: local, gguf:PATH, openai:MODEL, …")
    base_url: str = Field(default="", description="Address of the endpoint, for openai:MODEL.")
    api_key: SecretStr = Field(
        default=SecretStr(""), description="The endpoint's key; never a client's."
    )
    timeout_s: float = Field(
        default=120.0, gt=0, description="How long the model may take for an answer."
    )
    embedder: str = Field(default="minilm", description=f"{EMBEDDERS}.")
    threads: int | None = Field(default=None, ge=1, description="Threads of an embedded model.")
    journal: str = Field(
        default="", description="Folder of turns not stored yet; beside the database."
    )
    journal_sync: bool = Field(default=True, description="Wait until a turn is on the disk.")
    cache_policy: Literal["", "tenant", "user", "off"] = Field(
        default="", description="Who shares a prefix cache. Empty: a tenant, where the engine can."
    )
    cache_key: SecretStr = Field(
        default=SecretStr(""), description="Secret that salts are made of."
    )
    max_body_bytes: int = Field(default=4_194_304, ge=1024, description="Longest request body.")
    index_bytes: int = Field(
        default=MAX_BYTES, ge=1 << 20, description="Memory of the index in each process, at most."
    )
    threads_for_memory: int = Field(
        default=8, ge=1, le=128, description="Threads for store and index."
    )
    keep_alive_s: int = Field(
        default=75, ge=1, description="How long a connection stays open that nobody uses."
    )
    drain_s: float = Field(default=20.0, ge=0, description="How long a stopping server waits.")
    page: bool = Field(default=True, description="Serve the page for people at /.")
    metrics: bool = Field(default=True, description="Serve /metrics for Prometheus.")
    spans: bool = Field(default=False, description="Make OpenTelemetry spans.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_user_text: bool = Field(
        default=False, description="Write users' words and names to the log."
    )
    memory: MemoryPart = MemoryPart()
    learn: LearnPart = LearnPart()
    jwt: JwtPart = JwtPart()
    recommend: RecommendPart = RecommendPart()

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(
                f"auth is off but host is {self.host!r}, which others can reach; turn auth on, or "
                "listen on 127.0.0.1"
            )
        for name in ("admin_key", "cache_key"):
            size = len(getattr(self, name).get_secret_value())
            if 0 < size < SHORTEST_SECRET:
                raise ValueError(f"{name} has {size} characters; give {SHORTEST_SECRET} or more")
        if self.workers > 1 and self.database == ":memory:":
            raise ValueError("several workers cannot share a database in memory; give a file")
        return self

    def shown(self) -> dict[str, Any]:
        """Return the values as plain data, secrets masked. Any: of the fields' types."""
        masked: dict[str, Any] = _masked(self.model_dump())
        return masked


def load(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, object] | None = None,
) -> Config:
    """Return the configuration of a file, the environment, and what is `given`.

    An environment variable is PERSONA_AGENT_SERVE_ and the key in capitals, with two underscores
    before the key of a part: PERSONA_AGENT_SERVE_MEMORY__SIMILAR. Raises InputError.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read(Path(path))
    for name, text in sorted((environ or {}).items()):
        if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG" and text:
            _put(values, name.removeprefix(PREFIX).lower().split(NEST), text)
    for name, value in (given or {}).items():
        if value is not None:
            values[name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(f"the server's configuration is wrong: {_told(error)}") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def _put(values: dict[str, Any], keys: list[str], text: str) -> None:
    """Put the text of a variable where its name says; lists are separated by commas."""
    place = values
    for name in keys[:-1]:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"{PREFIX}{NEST.join(keys).upper()}: {name} is no part with keys")
        place = inner
    place[keys[-1]] = text.split(",") if keys[-1] == "algorithms" else text


def _told(error: ValidationError) -> str:
    """Return what is wrong and where, without the values: one may be a secret."""
    lines = []
    for one in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in one["loc"])
        what = "it is not known" if one["type"] == "extra_forbidden" else one["msg"]
        lines.append(f"{where}: {what}" if where else what.removeprefix("Value error, "))
    return "; ".join(lines)


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, dict):
        return {key: _masked(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value

"""The gate before the store: what is junk, and what holds a secret.

Pure: an interaction goes in, and comes out as it is, with its secrets taken out, or with the
reason why it is not stored. Patterns find the common forms of secrets, not every secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from persona_agent.types import Interaction, Json, Record, Role

Trust: TypeAlias = Literal["user", "assistant", "tool", "import"]

# Who vouches for what an author of this role wrote.
TRUST: Mapping[Role, Trust] = MappingProxyType(
    {"user": "user", "assistant": "assistant", "tool": "tool", "system": "tool"}
)

MAX_CHARS = 200_000
BOILERPLATE = re.compile(
    r"(ok(ay)?|k|yes|no|yep|nope|sure|thanks?( you)?( (so|very) much| a lot)?|thx|ty|great|cool|"
    r"nice|hi|hello|hey|bye|good(bye| morning| evening| night)?|lol|hm+|done|got it|perfect)"
    r"[\s.!?,]*",
    re.IGNORECASE,
)

# Each name is a reason code. What a pattern's group `keep` matches stays.
SECRETS = {
    "private_key": r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----[\s\S]{0,10000}?"
    r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY-----|\Z)",
    "url_password": r"(?<=://)[^\s:/@]{0,256}:[^\s/@]{1,256}(?=@)",
    "json_web_token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "aws_key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github_token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "gitlab_token": r"\bglpat-[\w-]{20,}",
    "slack_token": r"\bxox[abeprs]-[\w-]{10,}",
    "google_key": r"\bAIza[\w-]{35}",
    "stripe_key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "hugging_face_token": r"\bhf_[A-Za-z0-9]{30,}",
    "api_key": r"\bsk-[\w-]{20,}",
    "password": r"(?i:\b(?:password|passwd|passphrase|pwd|api[_ -]?key|secret|token)\s?[:=]\s?)"
    r"(?=\S*\d)[^\s\[]\S{5,}",
    "card_number": r"(?<![\w.])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w])",
}
ANY_SECRET = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in SECRETS.items()))


@dataclass(frozen=True, slots=True)
class Screen(Record):
    """What the gate does. Secrets are taken out unless told otherwise; junk rules are opt-in.

    `secrets`: "redact" stores the rest, "refuse" stores nothing of it, "off" looks for none.
    `boilerplate` refuses "ok", "thanks" and their like; `duplicates` what the same user has said
    in the same words before. An interaction with an outcome or an item is never junk by these.
    """

    secrets: Literal["redact", "refuse", "off"] = "redact"
    max_chars: int = MAX_CHARS
    boilerplate: bool = False
    duplicates: bool = False

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise ValueError(f"max_chars is {self.max_chars}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Screened:
    """What came out of the gate: the interaction to store, reason codes, and why not if not."""

    interaction: Interaction
    codes: tuple[str, ...] = ()
    refusal: str | None = None


def screened(one: Interaction, rules: Screen) -> Screened:
    """Return what the gate makes of an interaction."""
    size = len(one.query) + len(one.response or "") + len(one.outcome or "")
    if size > rules.max_chars:
        why = f"{one.id} has {size} characters; at most {rules.max_chars} are stored: split it"
        return Screened(one, ("too_long",), why)
    if one.item is None and not one.text.strip():
        return Screened(one, ("empty",), f"{one.id} is blank")
    if rules.boilerplate and is_small_talk(one) and BOILERPLATE.fullmatch(one.text.strip()):
        return Screened(one, ("boilerplate",), f"{one.id} says nothing about anybody")
    if rules.secrets == "off":
        return Screened(one)
    found: dict[str, None] = {}
    clean = _without_secrets(one, found)
    codes = tuple(f"secret:{name}" for name in found)
    if codes and rules.secrets == "refuse":
        return Screened(one, codes, f"{one.id} holds a secret: {', '.join(found)}")
    return Screened(clean, codes)


def is_small_talk(one: Interaction) -> bool:
    """Return whether an interaction is talk only: no outcome, item or response."""
    return one.outcome is None and one.item is None and one.response is None


def redacted(text: str) -> tuple[str, tuple[str, ...]]:
    """Return `text` with its secrets taken out, and the kinds that were found.

    >>> redacted("the key is AKIAABCDEFGHIJKLMNOP, keep it")
    ('the key is [removed: aws_key], keep it', ('aws_key',))
    """
    found: dict[str, None] = {}
    return _cut(text, found), tuple(found)


def _cut(text: str, found: dict[str, None]) -> str:
    def one(match: re.Match[str]) -> str:
        name = str(match.lastgroup)
        if name == "card_number" and not is_card(match.group()):
            return match.group()
        found[name] = None
        return f"[removed: {name}]"

    return ANY_SECRET.sub(one, text)


def is_card(text: str) -> bool:
    """Return whether the digits of `text` are as many as a card's, and pass the Luhn check.

    >>> is_card("4111 1111 1111 1111"), is_card("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(c) for c in text if c.isdecimal()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _without_secrets(one: Interaction, found: dict[str, None]) -> Interaction:
    query = _cut(one.query, found)
    response = None if one.response is None else _cut(one.response, found)
    outcome = None if one.outcome is None else _cut(one.outcome, found)
    item = None if one.item is None else _cut(one.item, found)
    options = tuple(_cut(option, found) for option in one.options)
    metadata = {name: _cut_json(value, found) for name, value in one.metadata.items()}
    if not found:
        return one
    return replace(
        one,
        query=query,
        response=response,
        outcome=outcome,
        item=item,
        options=options,
        metadata=metadata,
    )


def _cut_json(value: Json, found: dict[str, None]) -> Json:
    if isinstance(value, str):
        return _cut(value, found)
    if isinstance(value, list):
        return [_cut_json(item, found) for item in value]
    if isinstance(value, dict):
        return {name: _cut_json(item, found) for name, item in value.items()}
    return value

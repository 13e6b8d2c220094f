"""What a model says of a person, before it may be kept: one plain line, no order, no secret."""

from __future__ import annotations

import re

from persona_agent import prompts
from persona_agent.memory.screen import redacted
from persona_agent.persona import check_line
from persona_agent.sensitive import WordLists, check_not_sensitive

ORDER = re.compile(
    r"\b(?:ignore|disregard|override|bypass|forget)\b.{0,40}\b(?:instruction|rule|polic|previous|"
    r"above|prompt|everything)|\bsystem prompt\b|\bdeveloper mode\b|\b(?:assistant|model|ai|you) "
    r"(?:must|should|shall|may|can|will|has to|have to|is to|are)\b|\bmust (?:always|never)\b",
    re.IGNORECASE,
)


def statement(
    text: str, *, sensitive: bool = False, words: WordLists | None = None, what: str = "a statement"
) -> str:
    """Return what a model said of a person as it may be kept, on one line.

    Raises ValueError for a link, a secret, an instruction, and for what is sensitive by `words`,
    by default the lists that ship, unless `sensitive` lets it in.
    """
    plain = prompts.as_data(text)
    check_line(plain)
    if redacted(plain)[1]:
        raise ValueError(f"{what} that holds a secret is left out")
    if ORDER.search(plain):
        raise ValueError(f"{plain[:60]!r} is an instruction, not {what}; it is left out")
    if not sensitive:
        check_not_sensitive(plain, words)
    return plain

"""What a model says of a person, before it may be kept: one plain line, no order, no secret."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
WORD = re.compile(r"\w+")
DATES = re.compile(r"^\W*(?:\d{4}-\d\d-\d\d\W+(?:to\s+)?)+")  # as prompts write them before a text
A_BEGINNING = 5  # words


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


def check_not_repeated(line: str, told: Iterable[str]) -> None:
    """Raise ValueError for a line that says word for word what one of these texts says.

    Or how it begins, with five words or more: an answer may be cut off. A date before it, case and
    punctuation do not matter.

    >>> check_not_repeated("Likes tea", ["I like tea"])
    >>> check_not_repeated("2026-11-23: i like TEA", ["I like tea."])
    Traceback (most recent call last):
    ValueError: '2026-11-23: i like TEA' repeats what happened; it is left out
    """
    said = WORD.findall(DATES.sub("", line).casefold())
    for text in told:
        words = WORD.findall(text.casefold())
        if said == words or (len(said) >= A_BEGINNING and said == words[: len(said)]):
            raise ValueError(f"{line[:60]!r} repeats what happened; it is left out")

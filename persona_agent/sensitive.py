"""Sensitive categories: what a persona and its facts do not say about anybody by default.

The word lists are in sensitive.txt. A statement that names another person's address, phone
number or mail is in the category "contact". A list of words errs both ways: it refuses "likes
Christian Bale", and it misses what is said in other words. It is a default, not a guarantee.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

CONTACT = re.compile(
    r"[\w.+-]+@[\w-]+\.\w"  # mail
    r"|(?<![\w.])\+?\(?\d{2,4}\)?(?:[ ./-]\d{2,5}){2,5}(?![\w])"  # telephone, in groups
    r"|\+\d{8,15}\b"
    r"|\b\d{1,5} (?:[A-Z]\w+ ){1,3}(?:street|st|avenue|ave|road|rd|lane|drive|boulevard)\b",
    re.IGNORECASE,
)


def categories(text: str) -> tuple[str, ...]:
    """Return the sensitive categories that a statement touches, sorted; mostly none.

    >>> categories("is diabetic and goes to church"), categories("likes short films")
    (('health', 'religion'), ())
    """
    found = {name for name, words in _lists().items() if words.search(text)}
    if CONTACT.search(text):
        found.add("contact")
    return tuple(sorted(found))


def check_not_sensitive(text: str) -> str:
    """Return `text` if it touches no sensitive category; raises ValueError naming those."""
    if found := categories(text):
        raise ValueError(f"{text[:60]!r} is sensitive ({', '.join(found)}); it is left out")
    return text


@cache
def _lists() -> dict[str, re.Pattern[str]]:
    lists: dict[str, re.Pattern[str]] = {}
    source = files("persona_agent").joinpath("sensitive.txt").read_text(encoding="utf-8")
    for line in source.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, words = line.partition(":")
            stems = [re.escape(word.strip()).replace(r"\*", r"\w*") for word in words.split(",")]
            lists[name.strip()] = re.compile(rf"\b(?:{'|'.join(stems)})\b", re.IGNORECASE)
    return lists

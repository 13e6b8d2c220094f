"""Sensitive categories: what a persona and its facts do not say about anybody by default.

The word lists are in sensitive.txt. A statement that names another person's address, phone
number or mail is in the category "contact". A list of words errs both ways: it refuses "likes
Christian Bale", and it misses what is said in other words. It is a default, not a guarantee.
Lists of other languages are added by the caller, see WordLists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Self

# Dates come first, and what they take is no telephone number: the search goes from left to right.
CONTACT = re.compile(
    r"(?<![\w.])(?:(?:19|20)\d\d([./-])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"  # 2023-05-08
    r"|(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d)"  # 8.5.2023, 5/8/2023
    r"(?![\w@]|[./-]\d)"
    r"|(?P<contact>[\w.+-]+@[\w-]+\.\w"  # mail
    r"|(?<![\w.])\+?\d{2,4}\)?(?:[ ./-]\d{2,5}){2,5}(?![\w])"  # telephone, in groups
    r"|\+\d{8,15}\b"
    r"|\b\d{1,5} (?:[A-Z]\w+ ){1,3}(?:street|st|avenue|ave|road|rd|lane|drive|boulevard)\b)",
    re.IGNORECASE,
)


class WordLists:
    """Words by category. A word may end in *, for all words that begin so."""

    def __init__(self, lists: Mapping[str, Iterable[str]]) -> None:
        """Take in lists; raises ValueError for an empty one."""
        self.lists = {name: tuple(words) for name, words in lists.items()}
        self._patterns: dict[str, re.Pattern[str]] = {}
        for name, words in self.lists.items():
            stems = [re.escape(word.strip()).replace(r"\*", r"\w*") for word in words]
            if not stems or not all(stems):
                raise ValueError(f"the words of {name!r} are {words!r}; none may be empty")
            self._patterns[name] = re.compile(rf"\b(?:{'|'.join(stems)})\b", re.IGNORECASE)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the lists of a text: a line for each, "category: word, word"; # is a comment."""
        lists: dict[str, list[str]] = {}
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                name, _, words = line.partition(":")
                lists.setdefault(name.strip(), []).extend(words.split(","))
        return cls(lists)

    def __or__(self, other: WordLists) -> WordLists:
        """Return both, such as the lists that ship and those of another language."""
        names = {**self.lists, **other.lists}
        return WordLists(
            {name: self.lists.get(name, ()) + other.lists.get(name, ()) for name in names}
        )

    def found_in(self, text: str) -> set[str]:
        """Return the categories of which a text has a word."""
        return {name for name, words in self._patterns.items() if words.search(text)}


def categories(text: str, words: WordLists | None = None) -> tuple[str, ...]:
    """Return the sensitive categories that a statement touches, sorted; mostly none.

    `words` are by default the lists that ship.

    >>> categories("is diabetic and goes to church"), categories("likes short films")
    (('health', 'religion'), ())
    >>> categories("ist krank", shipped() | WordLists({"health": ["asthma*", "krank*"]}))
    ('health',)
    """
    found = (shipped() if words is None else words).found_in(text)
    if any(one["contact"] for one in CONTACT.finditer(text)):
        found.add("contact")
    return tuple(sorted(found))


def check_not_sensitive(text: str, words: WordLists | None = None) -> str:
    """Return `text` if it touches no sensitive category; raises ValueError naming those."""
    if found := categories(text, words):
        raise ValueError(f"{text[:60]!r} is sensitive ({', '.join(found)}); it is left out")
    return text


@cache
def shipped() -> WordLists:
    """Return the lists in sensitive.txt, which are English."""
    return WordLists.parse(
        files("persona_agent").joinpath("sensitive.txt").read_text(encoding="utf-8")
    )

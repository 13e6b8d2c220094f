"""Words that are understood exactly, before any model is asked. The lists are in words.txt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

from persona_agent.chat.state import Meaning
from persona_agent.types import Record

Command: TypeAlias = Literal["leave", "suggest", "again"]
Words: TypeAlias = tuple[str, ...]

TOKEN = re.compile(r"[^\W_]+(?:['’/-][^\W_]+)*|/\w+|[👍👎]")
COMMANDS: tuple[Command, ...] = ("leave", "suggest", "again")
PLACES = ("first", "second", "third")
ANSWERS: tuple[Meaning, ...] = ("unsure", "yes", "no")


@dataclass(frozen=True, slots=True)
class Quick(Record):
    """What exact words mean at the beginning of an answer, and what is said after them."""

    meaning: Meaning
    rest: str


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Phrases by what they mean, as tuples of folded words."""

    phrases: Mapping[str, frozenset[Words]]

    def has(self, name: str, word: str) -> bool:
        """Return whether a folded word is in a list."""
        return (word,) in self.phrases[name]

    def command(self, text: str) -> Command | None:
        """Return what a whole message asks for, None if it is something else."""
        words = self._core(words_of(text))
        return next((one for one in COMMANDS if words and words in self.phrases[one]), None)

    def place(self, text: str) -> int | None:
        """Return which of a list is named, from 0, None if none or several are."""
        words = words_of(text)
        spans = {words[i:j] for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
        found = [at for at, name in enumerate(PLACES) if spans & self.phrases[name]]
        return found[0] if len(found) == 1 else None

    def quick(self, text: str) -> Quick | None:
        """Return what an answer means that begins with exact words; None if that is not certain.

        The longest phrase counts. What follows must be filler, or begin after punctuation or a
        "but" and mean nothing else by itself.

        >>> shipped().quick("no idea, sorry"), shipped().quick("yes it is boring")
        (Quick(meaning='unsure', rest=''), None)
        """
        tokens = list(TOKEN.finditer(text))
        words = tuple(fold(one[0]) for one in tokens)
        size, meaning = self._longest(words)
        if meaning is None:
            return None
        rest = words[size:]
        if all(self.has("filler", one) or (one,) in self.phrases[meaning] for one in rest):
            return Quick(meaning, "")
        between = text[tokens[size - 1].end() : tokens[size].start()]
        apart = bool(between.strip()) or self.has("but", rest[0])
        others = {one for at in range(len(rest)) if (one := self._longest(rest[at:])[1])}
        if not apart or others - {meaning}:
            return None
        return Quick(meaning, text[tokens[size].start() :])

    def _longest(self, words: Words) -> tuple[int, Meaning | None]:
        for size in range(len(words), 0, -1):
            for meaning in ANSWERS:
                if words[:size] in self.phrases[meaning]:
                    return size, meaning
        return 0, None

    def _core(self, words: Words) -> Words:
        """Return a message without "please" and "thanks" at its end."""
        polite = {"please", "thanks", "bitte", "danke", "merci", "gracias"}
        while words and words[-1] in polite:
            words = words[:-1]
        return words


def fold(word: str) -> str:
    """Return a word as it is compared: lower case, without accents and apostrophes.

    >>> fold("Sí"), fold("don’t"), fold("はい")
    ('si', 'dont', 'はい')
    """
    plain = unicodedata.normalize("NFKD", word).casefold()
    bare = "".join(one for one in plain if not unicodedata.combining(one))
    return unicodedata.normalize("NFC", re.sub("['’]", "", bare))


def words_of(text: str) -> Words:
    """Return the folded words of a text."""
    return tuple(fold(one) for one in TOKEN.findall(text))


def parse(lines: Sequence[str]) -> Lexicon:
    """Return the lexicon of lines "name: phrase, phrase"; raises ValueError for another line."""
    found: dict[str, set[Words]] = {}
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, phrases = line.partition(": ")
        split = [words_of(one) for one in phrases.split(",")]
        if not colon or not all(split):
            raise ValueError(f"{line[:60]!r} is not of the form 'name: phrase, phrase'")
        found.setdefault(name, set()).update(split)
    return Lexicon({name: frozenset(phrases) for name, phrases in found.items()})


@cache
def shipped() -> Lexicon:
    """Return the lexicon of words.txt."""
    source = files("persona_agent.chat").joinpath("words.txt")
    return parse(source.read_text(encoding="utf-8").splitlines())

"""Which attributes and items a text names, for or against, and which phrases are to be looked up.

Names are found exactly first, by their words; what is left of each piece of text is a phrase for
the search by meaning. Whether something is wanted is told by the words around it: "no", "without",
"hate" turn what follows, until "but", a word of liking or the end of the sentence; with nothing
after them they turn what came before ("horror is not for me").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from persona_agent.chat.domain import Domain
from persona_agent.chat.state import Target
from persona_agent.chat.words import TOKEN, Lexicon, Words, fold, words_of
from persona_agent.types import Record

MAX_HEARD_CHARS = 1000
MAX_PHRASES = 4
MAX_PHRASE_WORDS = 8
MAX_NAME_WORDS = 12
ARTICLES = ("the", "a", "an")
SENTENCE_END = re.compile(r"[.!?;\n]")
EMPTY = ("filler", "not", "like", "and", "but", "yes", "no", "unsure")  # lists that name nothing
NEAR = 2  # tokens: in "do not really like" the word of liking does not turn the meaning back


@dataclass(frozen=True, slots=True)
class Mention(Record):
    """Something that was named, whether it is wanted, and the words that named it."""

    target: Target
    id: str
    wanted: bool
    words: str


@dataclass(frozen=True, slots=True)
class Phrase(Record):
    """Words that name nothing exactly: to be searched by meaning."""

    text: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Heard(Record):
    """What a text names, each thing once, the last time it is named; and what is to be looked up."""

    mentions: tuple[Mention, ...] = ()
    phrases: tuple[Phrase, ...] = ()


class Names:
    """The names of a domain, by their words."""

    def __init__(self, domain: Domain, lexicon: Lexicon) -> None:
        """Take in the names; attributes called by nothing but filler, such as "good", have none."""
        self.lexicon = lexicon
        found: dict[Words, tuple[Target, str]] = {}
        for item in domain.table.items:
            words = _title(domain.item(item) if _is_named(domain, item) else "")
            if words and len(words) <= MAX_NAME_WORDS:
                found.setdefault(words, ("item", item))
        for attribute, name in zip(
            domain.table.attributes, domain.table.attribute_names, strict=True
        ):
            for one in (name, *domain.aliases.get(attribute, ())):
                for words in _spellings(one):
                    if not all(_names_nothing(lexicon, word) for word in words):
                        found[words] = ("attribute", attribute)
        self._found: Mapping[Words, tuple[Target, str]] = found
        self.longest = max((len(words) for words in found), default=0)

    def find(self, words: Words) -> tuple[Target, str] | None:
        """Return what these folded words name exactly."""
        found = self._found.get(words)
        if found is None:
            found = self._found.get(tuple(_stem(word) for word in words))
        return found


def hear(text: str, names: Names) -> Heard:
    """Return what a text names, and the phrases that name nothing exactly.

    An item of one word is recognised only where it is all that is said ("I like Heat"), since many
    are everyday words.
    """
    mentions: list[Mention] = []
    phrases: list[Phrase] = []
    for sentence in SENTENCE_END.split(text[:MAX_HEARD_CHARS]):
        own, other = _sentence(sentence, names)
        mentions += own
        phrases += other
    last = {(one.target, one.id): one for one in mentions}
    return Heard(tuple(last.values()), tuple(phrases[:MAX_PHRASES]))


# A token, and what it belongs to: the place of its piece, between commas and "and"s.
_Piece: TypeAlias = list[re.Match[str]]


def _sentence(text: str, names: Names) -> tuple[list[Mention], list[Phrase]]:
    mentions: list[Mention] = []
    phrases: list[Phrase] = []
    wanted, turned = True, False  # turned: a word of refusal that nothing has followed yet
    clause = (0, 0)  # where the clause begins in mentions and phrases
    since = NEAR + 1
    for piece, begins in _pieces(text, names.lexicon):
        if begins in ("but", "not"):
            wanted, turned = begins == "but", begins == "not"
        if begins in ("but", "not", ","):
            clause = (len(mentions), len(phrases))
        left: list[str] = []
        at = 0
        alone = _content(piece, names.lexicon)
        while at < len(piece):
            size, found = _longest(piece, at, names, alone)
            if found is not None:
                span = text[piece[at].start() : piece[at + size - 1].end()]
                mentions.append(Mention(*found, wanted, span))
                turned, since = False, NEAR + 1
                at += size
                continue
            word = fold(piece[at][0])
            since += 1
            if names.lexicon.has("not", word):
                wanted, turned, since = False, True, 0
            elif names.lexicon.has("like", word) and since > NEAR:
                wanted, turned = True, False
            elif not _names_nothing(names.lexicon, word):
                left.append(piece[at][0])
            at += 1
        if left:
            phrases.append(Phrase(" ".join(left[:MAX_PHRASE_WORDS]), wanted))
    if turned:
        mentions[clause[0] :] = [replace(one, wanted=False) for one in mentions[clause[0] :]]
        phrases[clause[1] :] = [replace(one, wanted=False) for one in phrases[clause[1] :]]
    return mentions, phrases


def _pieces(text: str, lexicon: Lexicon) -> Iterator[tuple[_Piece, str]]:
    """Yield the tokens between commas, "and" and "but", and what came before.

    That is one of these, "not" for an "anything but", or "".
    """
    piece: _Piece = []
    begins, end, last = "", 0, ""
    for token in TOKEN.finditer(text):
        word = fold(token[0])
        before = "," if "," in text[end : token.start()] else ""
        joint = next((one for one in ("but", "and") if lexicon.has(one, word)), "")
        if (last, word) in lexicon.phrases["not"]:
            joint = "not"
        end, last = token.end(), word
        if (before or joint) and piece:
            yield piece, begins
            piece, begins = [], ""
        begins = joint or before or begins
        if not joint:
            piece.append(token)
    if piece:
        yield piece, begins


def _longest(
    piece: _Piece, at: int, names: Names, alone: tuple[int, int]
) -> tuple[int, tuple[Target, str] | None]:
    """Return the longest name that begins at a token, with its number of tokens."""
    words = [fold(one[0]) for one in piece[at : at + names.longest + 1]]
    for size in range(len(words), 0, -1):
        found = names.find(tuple(words[:size]))
        if found is None:
            continue
        if found[0] == "item" and size == 1 and (at, at + 1) != alone:
            continue
        return size, found
    return 0, None


def _content(piece: _Piece, lexicon: Lexicon) -> tuple[int, int]:
    """Return from where to where the words stand that are not filler; all, if all are."""
    kept = [at for at, one in enumerate(piece) if not _names_nothing(lexicon, fold(one[0]))]
    return (kept[0], kept[-1] + 1) if kept else (0, len(piece))


def _names_nothing(lexicon: Lexicon, word: str) -> bool:
    return any(lexicon.has(name, word) for name in EMPTY)


def _title(name: str) -> Words:
    """Return the words of a title, without year and leading article."""
    words = words_of(re.sub(r"\s*\(\d{4}\)\s*$", "", name))
    return words[1:] if len(words) > 1 and words[0] in ARTICLES else words


def _spellings(name: str) -> set[Words]:
    """Return how an attribute may be written: as it is, in the singular, its parts apart."""
    apart = re.sub(r"[-/'’]", " ", name)
    return {
        spelled
        for one in (name, apart)
        if (words := words_of(one))
        for spelled in (words, tuple(_stem(word) for word in words))
    }


def _stem(word: str) -> str:
    """Return a word in the singular, roughly.

    >>> _stem("comedies"), _stem("thrillers"), _stem("jazz"), _stem("1990s")
    ('comedy', 'thriller', 'jazz', '1990s')
    """
    if word[:1].isdigit() or len(word) < 4 or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word.removesuffix("s")


def _is_named(domain: Domain, item: str) -> bool:
    (position,) = domain.table.items.positions([item]).tolist()
    return bool(domain.catalogue.titled[position])

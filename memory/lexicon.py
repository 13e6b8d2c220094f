"""The words of one user's texts, for BM25; and how much each text matters.

Our own, since a database's full-text search differs between databases, ranks by statistics of all
users together, and cannot be cut at a moment: what is asked about the past must not be answered
with word counts of the future. Here the statistics are those of the texts that may be found.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from persona_agent.memory.ranking import DECIMALS

WORD = re.compile(r"\w+")
K1 = 1.2  # how soon repeating a word stops to count
B = 0.75  # how much long texts are held back
WORD_BYTES = 250  # of a word's place in the lexicon (measured)


@dataclass(frozen=True, slots=True)
class Counts:
    """What BM25 knows of a set of texts: how many, their words, how many texts have each word."""

    texts: int
    length: int
    having: Mapping[str, int]

    def rarity(self, word: str) -> float:
        """Return how much a word tells: its inverse document frequency, above 0."""
        having = self.having[word]
        return math.log1p((self.texts - having + 0.5) / (having + 0.5))

    def __add__(self, other: Counts) -> Counts:
        having = {word: count + other.having[word] for word, count in self.having.items()}
        return Counts(self.texts + other.texts, self.length + other.length, having)


class Lexicon:
    """Texts at ranks 0 to n - 1, by their words."""

    def __init__(self) -> None:
        self._ranks: dict[str, array[int]] = {}
        self._times: dict[str, array[int]] = {}
        self._lengths = array("i")
        self._hashes = array("q")
        self._salience = array("d")
        self._postings = 0

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def nbytes(self) -> int:
        """The memory this takes, by estimate."""
        return WORD_BYTES * len(self._ranks) + 8 * self._postings + 20 * len(self)

    @property
    def salience(self) -> npt.NDArray[np.float64]:
        """How much each text matters, from 0 to 1."""
        return np.array(self._salience)

    def add(self, text: str, salience: float = 1.0) -> None:
        """Take in the text of the next rank."""
        rank = len(self._lengths)
        counts = Counter(WORD.findall(text.casefold()))
        for word, times in counts.items():
            if word not in self._ranks:
                self._ranks[word], self._times[word] = array("i"), array("i")
            self._ranks[word].append(rank)
            self._times[word].append(times)
        self._postings += len(counts)
        self._lengths.append(sum(counts.values()))
        self._hashes.append(hash(text))
        self._salience.append(salience)

    def holds(self, rank: int, text: str, salience: float) -> bool:
        """Return whether this is the text at a rank."""
        return self._hashes[rank] == hash(text) and self._salience[rank] == salience

    def counts(
        self, words: Sequence[str], end: int, allowed: npt.NDArray[np.bool_] | None
    ) -> Counts:
        """Return the counts of the first `end` texts that are `allowed`, None being all."""
        lengths = self._sizes(end)
        having = {word: len(self._found(word, end, allowed)[0]) for word in words}
        if allowed is None:
            return Counts(end, int(lengths.sum()), having)
        return Counts(int(allowed.sum()), int(lengths[allowed].sum()), having)

    def scores(
        self,
        words: Sequence[str],
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
        counts: Counts | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return the BM25 of each of the first `end` texts; 0 without one of the words.

        `allowed`, of length `end`, says which texts there are: others count for nothing and score
        0. `counts` are those of all texts that are ranked together, by default of these. Rounded
        to six decimals.
        """
        scores = np.zeros(end)
        known = self.counts(words, end, allowed) if counts is None else counts
        if not known.texts:
            return scores
        mean = known.length / known.texts
        lengths = self._sizes(end)
        for word in words:
            ranks, times = self._found(word, end, allowed)
            held = K1 * (1 - B + B * lengths[ranks] / mean)
            scores[ranks] += known.rarity(word) * times * (K1 + 1) / (times + held)
        return scores.round(DECIMALS)

    def search(
        self,
        words: Sequence[str],
        k: int,
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
        counts: Counts | None = None,
    ) -> list[tuple[int, float]]:
        """Return ranks and BM25 of the best `k` texts with one of the words, best first.

        Of equals, the earlier first.
        """
        scores = self.scores(words, end, allowed, counts)
        hits = np.flatnonzero(scores)
        best = hits[np.lexsort((hits, -scores[hits]))[:k]]
        return [(int(rank), float(scores[rank])) for rank in best]

    def shares(
        self, words: Sequence[str], ranks: Sequence[int], counts: Counts
    ) -> npt.NDArray[np.float64]:
        """Return how much of the words each text at `ranks` says: from 0 to 1, 1 being all of them.

        A word counts by the square of its rarity, as in the inner product of two texts by tf-idf;
        how often it is said and how long the text is do not matter. Rounded to six decimals.
        """
        wanted = np.asarray(ranks, np.int64)
        said, whole = np.zeros(len(wanted)), 0.0
        for word in words:
            weight = counts.rarity(word) ** 2
            whole += weight
            if word in self._ranks and len(wanted):
                found = np.frombuffer(self._ranks[word], np.int32)
                places = np.searchsorted(found, wanted).clip(max=len(found) - 1)
                said[found[places] == wanted] += weight
        return (said / whole).round(DECIMALS) if whole else said

    def _sizes(self, end: int) -> npt.NDArray[np.int32]:
        return np.frombuffer(self._lengths, np.int32)[:end] if end else np.zeros(0, np.int32)

    def _found(
        self, word: str, end: int, allowed: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the ranks of the texts with a word, and how often each has it."""
        if word not in self._ranks:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        ranks = np.frombuffer(self._ranks[word], np.int32)
        ranks = ranks[: int(np.searchsorted(ranks, end))]
        times = np.frombuffer(self._times[word], np.int32)[: len(ranks)]
        if allowed is not None:
            there = allowed[ranks]
            ranks, times = ranks[there], times[there]
        return ranks, times


def words_of(query: str) -> list[str]:
    """Return the words of a query, each once, in an order that does not depend on the query's.

    >>> words_of("The cat, the DOG")
    ['cat', 'dog', 'the']
    """
    return sorted(set(WORD.findall(query.casefold())))  # one order: sums of floats


def salience_of(metadata: str) -> float:
    """Return how much an event matters by its metadata, JSON: `salience` from 0 to 1; else 1.

    >>> salience_of('{"salience": 0.25}'), salience_of('{"salience": "much"}'), salience_of("{}")
    (0.25, 1.0, 1.0)
    """
    if '"salience"' not in metadata:
        return 1.0
    value = cast("Mapping[str, object]", json.loads(metadata)).get("salience")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 1.0
    return min(1.0, max(0.0, float(value)))

"""ROUGE: how much of the words of two texts agree (Lin 2004), as `rouge_score` computes it.

Texts are in lower case, words are runs of a-z and 0-9, and there is no stemming: that is what
`evaluate.load("rouge")`, which LaMP uses, does when nothing else is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from persona_agent.types import Record

WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Rouge(Record):
    """Precision (of what was predicted), recall (of what is real) and their F1, in [0, 1]."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def words(text: str) -> list[str]:
    """Return the words of a text as ROUGE sees them.

    >>> words("Don't STOP, Ünal-3!")
    ['don', 't', 'stop', 'nal', '3']
    """
    return WORD.findall(text.lower())


def rouge_1(predicted: str, real: str) -> Rouge:
    """Return the agreement of single words; 0 if either text has none.

    >>> round(rouge_1("the cat sat", "the cat was here").f1, 4)
    0.5714
    """
    a, b = words(predicted), words(real)
    return _rouge((Counter(a) & Counter(b)).total(), a, b)


def rouge_l(predicted: str, real: str) -> Rouge:
    """Return the agreement by the longest common subsequence of words; 0 if either has none.

    >>> round(rouge_l("sat the cat", "the cat was here").f1, 4)
    0.5714
    """
    a, b = words(predicted), words(real)
    return _rouge(longest_common(a, b), a, b)


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in len(a) x len(b) steps."""
    row = [0] * (len(b) + 1)
    for one in a:
        left = diagonal = 0
        for place, other in enumerate(b, start=1):
            above = row[place]
            left = diagonal + 1 if one == other else max(above, left)
            row[place], diagonal = left, above
    return row[-1]


def _rouge(common: int, predicted: Sequence[str], real: Sequence[str]) -> Rouge:
    if not predicted or not real:
        return Rouge(0.0, 0.0)
    return Rouge(common / len(predicted), common / len(real))

"""Ask what halves the belief, show items when a hit is as likely as the question is telling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.dialogue.entries import Values, keep, listed, row_of, values_at
from persona_agent.recommend.dialogue.entropy import masses
from persona_agent.recommend.dialogue.environment import Actions
from persona_agent.recommend.dialogue.leading import leading
from persona_agent.recommend.dialogue.policy import Situation, nothing
from persona_agent.recommend.dialogue.scores import ItemScores
from persona_agent.recommend.dialogue.state import NONE, Beliefs, contradictions
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class UncertaintyPolicy:
    """Keeps the chance of each candidate, by its score and by what was answered; learns nothing.

    The chance of a candidate is proportional to exp(`sharpness` times its score) times
    (wrong / (1 - wrong)) for each answer that speaks against it, so that with `wrong` 0 one such
    answer rules it out. It asks about the attribute that splits the chances most evenly: the
    largest expected gain of information. It shows the likeliest items when the chance that one of
    them is wanted, times `eagerness`, is at least the smaller side of that split, and in the last
    turn: then the list tells no less than the question, and may end the dialogue besides.

    Our own, after the idea of MINICORN (arXiv 2206.14468), whose text we have not read.
    """

    table: AttributeTable
    scores: ItemScores
    sharpness: float = 1.0
    wrong: float = 0.0
    eagerness: float = 1.0
    shown: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.wrong < 0.5:
            raise ValueError(f"wrong is {self.wrong}; it must be at least 0 and below .5")
        if not self.eagerness > 0:
            raise ValueError(f"eagerness is {self.eagerness}; it must be above 0")

    def act(self, now: Situation) -> Actions:
        beliefs, chances = self.chances(now)
        mass, _ = masses(self.table, beliefs, chances)
        evenness = 0.5 - abs(mass.data - 0.5)
        question = leading(mass, evenness, 1)[:, 0]
        best = np.zeros(len(now), np.float32)
        np.maximum.at(best, row_of(mass), evenness)
        found = nothing(len(now), 1, self.shown)
        show = leading(beliefs.candidates, chances, self.shown)
        hit = _sum_of(beliefs, chances, show)
        shows = (hit * self.eagerness >= best) | (question == NONE) | (now.left == 1)
        found.show[shows] = show[shows]
        found.ask[~shows, 0] = question[~shows]
        return found

    def chances(self, now: Situation) -> tuple[Beliefs, FloatArray]:
        """Return beliefs without what is ruled out, and the chance of each candidate left.

        Where everything is ruled out, the answers contradict each other, and what is left are all
        candidates by score.
        """
        beliefs = now.beliefs
        against = contradictions(self.table, beliefs)
        scores = self.scores.at(beliefs, now.users).astype(np.float64) * self.sharpness
        rows = row_of(beliefs.candidates)
        if not self.wrong:
            possible = against == 0
            lost = np.bincount(rows[possible], minlength=len(beliefs)) == 0
            possible |= lost[rows]
            narrowed = keep(beliefs.candidates, possible)
            beliefs = Beliefs(narrowed, beliefs.refused, beliefs.said, beliefs.turn)
            scores, rows = scores[possible], rows[possible]
        else:
            scores = scores + against * np.log(self.wrong / (1 - self.wrong))
        return beliefs, _softmax(scores, rows, len(beliefs))


def _softmax(scores: Values, rows: IntArray, dialogues: int) -> FloatArray:
    peak = np.full(dialogues, -np.inf)
    np.maximum.at(peak, rows, scores)
    powers = np.exp(scores - peak[rows])
    found: FloatArray = (powers / np.bincount(rows, powers, dialogues)[rows]).astype(np.float32)
    return found


def _sum_of(beliefs: Beliefs, chances: FloatArray, items: IntArray) -> FloatArray:
    """Return the chance that one of the items shown is wanted."""
    inside = values_at(listed(items, beliefs.candidates.shape, NONE), beliefs.candidates)
    found: FloatArray = np.bincount(
        row_of(beliefs.candidates), chances * inside, minlength=len(beliefs)
    ).astype(np.float32)
    return found

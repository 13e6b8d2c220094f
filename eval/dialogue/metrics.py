"""How good dialogues were: found or not, how soon, and how high in the list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.dialogue.simulate import Outcomes

Column = npt.NDArray[np.float64]


def success(found: Outcomes, turn: int) -> Column:
    """Return 1 for each episode whose target was shown by this turn, SR@turn; else 0."""
    return ((found.turn > 0) & (found.turn <= turn)).astype(np.float64)


def turns(found: Outcomes, most: int) -> Column:
    """Return the turn in which the target was shown, AT; failures count as `most`."""
    return np.where(found.turn > 0, found.turn, most).astype(np.float64)


def hierarchical_dcg(found: Outcomes) -> Column:
    """Return hDCG of each episode, 0 where it failed.

    With t the turn from 0 and r the rank from 1 it is
    1 / log2(t + 3) + (1 / log2(t + 2) - 1 / log2(t + 3)) / log2(r + 1), so that the next turn is
    worth what the bottom of the list is. Source: Deng et al. (2021), by their released code.
    """
    turn = np.maximum(found.turn - 1, 0).astype(np.float64)
    rank = np.maximum(found.rank, 1).astype(np.float64)
    later, sooner = 1 / np.log2(turn + 3), 1 / np.log2(turn + 2)
    return np.where(found.turn > 0, later + (sooner - later) / np.log2(rank + 1), 0.0)

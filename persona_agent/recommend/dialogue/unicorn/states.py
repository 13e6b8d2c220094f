"""What UNICORN sees of a dialogue: its graph and the actions it may take, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.data import BoolArray, Csr
from persona_agent.recommend.dialogue.entries import row_of
from persona_agent.recommend.dialogue.entropy import masses, sigmoid
from persona_agent.recommend.dialogue.leading import leading, leading_entries
from persona_agent.recommend.dialogue.policy import Situation
from persona_agent.recommend.dialogue.scores import VectorScores
from persona_agent.recommend.dialogue.state import ACCEPTED, NONE, REJECTED
from persona_agent.recommend.dialogue.unicorn.settings import Unicorn
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray

Small = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """A batch of states of fixed widths, NONE filling up, so that many can be kept.

    `accepted` and `rejected` are positions of attributes, `items` the candidates of highest score,
    best first, with `weights`, the sigmoids of their scores. `actions` are items by position and
    then attributes by position plus the number of items, the items first.
    """

    user: Small
    accepted: Small
    rejected: Small
    items: Small
    weights: FloatArray
    actions: Small

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: IntArray | BoolArray) -> States:
        """Return these states, in their order."""
        return States(*(getattr(self, name)[rows] for name in NAMES))


NAMES = ("user", "accepted", "rejected", "items", "weights", "actions")


def blank(settings: Unicorn, count: int) -> States:
    """Return arrays for so many states."""
    widths = (
        settings.turns + 1,
        settings.turns,
        settings.most,
        settings.items + settings.attributes,
    )
    accepted, rejected, items, actions = (
        np.full((count, width), NONE, np.int32) for width in widths
    )
    weights = np.zeros((count, settings.most), np.float32)
    return States(np.zeros(count, np.int32), accepted, rejected, items, weights, actions)


def states_of(scores: VectorScores, settings: Unicorn, now: Situation) -> States:
    """Return what is seen of each dialogue."""
    beliefs, table = now.beliefs, scores.table
    found = blank(settings, len(now))
    found.user[:] = now.users
    _list(found.accepted, beliefs.said, ACCEPTED)
    _list(found.rejected, beliefs.said, REJECTED)
    weights = sigmoid(scores.at(beliefs, now.users))
    entries = leading_entries(beliefs.candidates, weights, settings.most)
    found.items[:] = np.append(beliefs.candidates.indices, NONE)[entries]
    found.weights[:] = np.append(weights, 0)[entries]
    mass, whole = masses(table, beliefs, weights)
    owner = row_of(mass)
    if settings.variant == "paper":
        value: FloatArray = -abs(2 * mass.data - whole[owner])
    else:
        alike = scores.wish(beliefs, now.users) @ scores.attributes.T
        value = alike[owner, mass.indices]
    offered = leading(mass, value, settings.attributes)
    found.actions[:, : settings.items] = found.items[:, : settings.items]
    found.actions[:, settings.items :] = np.where(offered == NONE, NONE, len(table) + offered)
    return found


def _list(places: Small, said: Csr, kind: int) -> None:
    """Write the attributes that were answered so to the rows of `places`."""
    so = said.data == kind
    owner, attribute = row_of(said)[so], said.indices[so]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    if len(place) and place.max() >= places.shape[1]:
        raise ValueError(
            f"a dialogue has {place.max() + 1} answers of a kind, and there is room for "
            f"{places.shape[1]}; set turns to the turns of the dialogue"
        )
    places[owner, place] = attribute

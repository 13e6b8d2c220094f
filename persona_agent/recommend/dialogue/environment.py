"""A simulated dialogue: somebody wants one item, answers questions and looks at lists.

Thousands of episodes go on side by side: a step is a few products of sparse matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from persona_agent.recommend.data import BoolArray, Interactions
from persona_agent.recommend.dialogue import state
from persona_agent.recommend.dialogue.chance import uniform
from persona_agent.recommend.dialogue.entries import row_of
from persona_agent.recommend.dialogue.state import ACCEPTED, NONE, REJECTED, Beliefs
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IntArray
from persona_agent.types import FloatArray, Record


@dataclass(frozen=True, slots=True)
class Rules(Record):
    """How a dialogue goes: `turns` of the system, lists of `shown` items, and what each is worth.

    The rewards are UNICORN's. `wrong` is the chance that an answer about an attribute is not
    true; somebody errs about the same attributes whoever asks. `drop_rejected` and `narrow` say
    what answers do to the candidates, as in `state.answer`.
    """

    turns: int = 15
    shown: int = 10
    wrong: float = 0.0
    drop_rejected: bool = False
    narrow: bool = True
    found: float = 1.0
    not_found: float = -0.1
    accepted: float = 0.01
    rejected: float = -0.1
    ended: float = -0.3
    nothing_left: float = -0.1

    def __post_init__(self) -> None:
        if self.turns < 1 or self.shown < 1:
            raise ValueError(f"turns is {self.turns} and shown {self.shown}; 1 or more are due")
        if not 0 <= self.wrong < 0.5:
            raise ValueError(f"wrong is {self.wrong}; it must be at least 0 and below .5")


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """Who wants what and what he says first: positions of user, item and attribute, a row each.

    `number` names an episode where chance decides, so that it meets the same in any batch.
    """

    user: IntArray
    target: IntArray
    opening: IntArray
    number: IntArray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: IntArray | BoolArray | slice) -> Episodes:
        """Return these episodes, in their order."""
        return Episodes(self.user[rows], self.target[rows], self.opening[rows], self.number[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Actions:
    """What the system does in each dialogue: ask about attributes, or show items.

    Both are positions (dialogues, width), NONE filling up; `ask` of several attributes is an
    enumerated question. A row of neither gives up.
    """

    ask: IntArray
    show: IntArray

    @property
    def asks(self) -> BoolArray:
        """Which dialogues are asked a question."""
        found: BoolArray = (self.ask != NONE).any(axis=1)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What came of one action in each dialogue.

    `rank` is the place of the target in the list, from 1, and 0 where it was not shown; `gave_up`
    are those without an action.
    """

    beliefs: Beliefs
    reward: FloatArray
    rank: IntArray
    gave_up: BoolArray

    @property
    def over(self) -> BoolArray:
        """Which dialogues have ended, apart from those whose turns are over."""
        return (self.rank > 0) | self.gave_up


def every(table: AttributeTable, wanted: Interactions, *, seed: int = 0) -> Episodes:
    """Return one episode for each interaction, opened with a random attribute of the item.

    Items without attributes are left out: nobody could open with them.
    """
    has_any = np.diff(table.has.indptr)[wanted.item] > 0
    user, target = wanted.user[has_any], wanted.item[has_any]
    number = np.arange(len(user), dtype=np.int64)
    return Episodes(user, target, _openings(table, target, number, seed), number)


def drawn(
    table: AttributeTable, wanted: Interactions, count: int, rng: np.random.Generator
) -> Episodes:
    """Return episodes by chance: a uniform user, one of its items, an attribute of that."""
    has_any = np.diff(table.has.indptr)[wanted.item] > 0
    user, target = wanted.user[has_any], wanted.item[has_any]
    people, first, own = np.unique(user, return_index=True, return_counts=True)
    if not len(people):
        raise ValueError("there are no items with attributes that anybody wants")
    who = rng.integers(0, len(people), count)
    row = first[who] + (rng.random(count) * own[who]).astype(np.int64)
    number = rng.integers(0, 2**62, count)
    opening = _openings(table, target[row], number, 0)
    return Episodes(people[who], target[row], opening, number)


def begin(table: AttributeTable, episodes: Episodes) -> Beliefs:
    """Return the beliefs after everybody's opening."""
    return state.open_with(table, episodes.opening)


def step(
    table: AttributeTable, rules: Rules, episodes: Episodes, beliefs: Beliefs, actions: Actions
) -> Step:
    """Return what an action does in each dialogue.

    Who shows a list does not ask. The reward `ended` is for whoever counts turns to give.
    """
    rows = np.arange(len(episodes))
    asks = actions.asks
    shows = ~asks & (actions.show != NONE).any(axis=1)
    said = replies(table, rules, episodes, actions.ask)
    after = state.answer(
        table,
        beliefs,
        actions.ask,
        said,
        drop_rejected=rules.drop_rejected,
        narrow=rules.narrow,
    )
    shown = np.where(shows[:, None], actions.show, NONE)
    hit = shown == episodes.target[:, None]
    found = hit.any(axis=1)
    missed = np.where((shows & ~found)[:, None], shown, NONE)
    if shows.any():
        after = state.refuse(after, missed, turns=0)
    accepts = (said == ACCEPTED).any(axis=1)
    reward = np.full(len(rows), rules.nothing_left, np.float32)
    reward[asks] = np.where(accepts[asks], rules.accepted, rules.rejected)
    reward[shows] = np.where(found[shows], rules.found, rules.not_found)
    rank = np.where(found, hit.argmax(axis=1) + 1, 0)
    return Step(after, reward, rank, ~asks & ~shows)


def replies(
    table: AttributeTable, rules: Rules, episodes: Episodes, ask: IntArray
) -> state.Answers:
    """Return what each user says of the attributes asked: of shape `ask`, 0 where it is NONE."""
    asked = ask != NONE
    true = holds(table, np.broadcast_to(episodes.target[:, None], ask.shape), ask)
    if rules.wrong:
        draw = uniform("answer", np.broadcast_to(episodes.number[:, None], ask.shape), ask)
        true = true ^ (draw < rules.wrong)
    kind: npt.NDArray[np.int8] = np.where(true, ACCEPTED, REJECTED).astype(np.int8)
    return np.where(asked, kind, np.int8(0))


def holds(table: AttributeTable, items: IntArray, attributes: IntArray) -> BoolArray:
    """Return whether each item has each attribute; False where the attribute is NONE."""
    width = len(table.attributes)
    known = row_of(table.has) * width + table.has.indices
    wanted = items * width + attributes
    at = np.searchsorted(known, wanted)
    at[at == len(known)] = 0
    found: BoolArray = (known[at] == wanted) & (attributes != NONE)
    return found


def _openings(table: AttributeTable, target: IntArray, number: IntArray, seed: int) -> IntArray:
    first = table.has.indptr[target]
    count = table.has.indptr[target + 1] - first
    at = first + (uniform(f"opening {seed}", number, target) * count).astype(np.int64)
    opening: IntArray = table.has.indices[at].astype(np.int64)
    return opening

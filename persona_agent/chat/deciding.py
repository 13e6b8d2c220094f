"""Ask or recommend: what is believed of the items, and the step that is worth most.

People err, change their minds and want something a little different from what they say, so an
answer makes items likelier or less likely and rules none out; what was shown and refused is out.
The question asked is the one whose answer tells most about which item is wanted, in bits: its
mutual information with the wanted item under the belief (uncertainty sampling as in MINICORN,
without what a policy has to learn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.chat.domain import Domain
from persona_agent.chat.state import ChatState
from persona_agent.types import Record

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Policy(Record):
    """When to ask and when to recommend.

    A list has `show` items. It is due when the chance that one of them is wanted is `worth` or
    more, when no question tells `least_bits`, or after `patience` questions in a row.

    Somebody who wants an item that has an attribute says yes to it with probability `yes_if_has`,
    and `yes_if_not` if it has not. What is `remembered` from before counts by that much: tonight
    may be different.
    """

    show: int = 3
    patience: int = 4
    worth: float = 0.3
    least_bits: float = 0.2
    yes_if_has: float = 0.9
    yes_if_not: float = 0.15
    remembered: float = 0.2

    def __post_init__(self) -> None:
        if self.show < 1 or self.patience < 0:
            raise ValueError(
                f"show is {self.show} and patience {self.patience}; at least 1 and 0 are due"
            )
        if not 0 < self.yes_if_not < self.yes_if_has < 1:
            raise ValueError(
                f"yes_if_not is {self.yes_if_not} and yes_if_has {self.yes_if_has}; both must be "
                "between 0 and 1, and the second the larger"
            )
        if not 0 <= self.remembered <= 1:
            raise ValueError(f"remembered is {self.remembered}; it must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """The next step: ask about `ids[0]`, show `ids`, or nothing is left.

    `bits` is what the best question tells, `chance` that of the best list to hold what is wanted.
    """

    step: Literal["ask", "show", "nothing"]
    ids: tuple[str, ...] = ()
    bits: float = 0.0
    chance: float = 0.0


def belief(domain: Domain, state: ChatState, prior: Array, policy: Policy) -> Array:
    """Return how likely each item is the one wanted, of shape (items,); 0s if nothing is left.

    p(item) is proportional to prior(item) times, for each opinion of an attribute, the chance of
    that answer by somebody who wants the item. Items shown, refused or known are out.
    """
    table = domain.table
    log = np.full(len(table), -np.inf)
    np.log(prior, out=log, where=prior > 0)
    sure = {
        "yes": (np.log(policy.yes_if_has), np.log(policy.yes_if_not)),
        "no": (np.log1p(-policy.yes_if_has), np.log1p(-policy.yes_if_not)),
    }
    for one in state.opinions:
        if one.target == "attribute" and one.meaning in sure and one.id in table.attributes:
            (position,) = table.attributes.positions([one.id]).tolist()
            has, has_not = sure[one.meaning]
            weight = policy.remembered if one.remembered else 1.0
            log += weight * has_not
            log[table.items_with(position)] += weight * (has - has_not)
    out = {one.id for one in state.opinions if one.target == "item" and one.meaning != "unsure"}
    log[table.items.positions(domain.known([*state.shown, *out]))] = -np.inf
    top = log.max()
    if not np.isfinite(top):
        return np.zeros(len(table))
    weights = np.exp(log - top)
    found: Array = weights / weights.sum()
    return found


def information(domain: Domain, chances: Array, policy: Policy) -> Array:
    """Return the mutual information of each attribute's answer and the wanted item, in bits.

    H(answer) - H(answer | item), the answer being yes with probability `yes_if_has` or
    `yes_if_not`. Shape (attributes,).
    """
    share = np.clip(domain.table.had_by @ chances, 0, 1)
    yes = share * policy.yes_if_has + (1 - share) * policy.yes_if_not
    given = share * _entropy(np.array(policy.yes_if_has)) + (1 - share) * _entropy(
        np.array(policy.yes_if_not)
    )
    found: Array = np.maximum(_entropy(yes) - given, 0)
    return found


def decide(
    domain: Domain, state: ChatState, chances: Array, policy: Policy, *, show_now: bool = False
) -> Decision:
    """Return what to do next, given the belief. With `show_now` a list, if anything is left.

    Nothing is asked twice, nor what was said in this conversation; what is remembered may be
    asked again, since it tells less than an answer of today. Ties go to the lower position.
    """
    possible = int((chances > 0).sum())
    if not possible:
        return Decision("nothing")
    best = np.argsort(-chances, kind="stable")[: min(policy.show, possible)]
    items = tuple(domain.table.items.ids[best].tolist())
    chance = float(chances[best].sum())
    bits = information(domain, chances, policy)
    bits[~domain.askable] = 0
    said = [one.id for one in state.opinions if one.target == "attribute" and not one.remembered]
    spent = domain.table.attributes.find([*said, *state.asked])
    bits[spent[spent >= 0]] = 0
    question = int(bits.argmax())
    gain = float(bits[question])
    is_due = (
        show_now
        or possible <= policy.show
        or chance >= policy.worth
        or gain < policy.least_bits
        or state.questions >= policy.patience
    )
    if is_due:
        return Decision("show", items, gain, chance)
    return Decision("ask", (str(domain.table.attributes.ids[question]),), gain, chance)


def _entropy(chance: Array) -> Array:
    """Return the entropy of yes and no in bits, 0 where one is certain."""
    safe = np.clip(chance, 1e-12, 1 - 1e-12)
    found: Array = -(safe * np.log2(safe) + (1 - safe) * np.log2(1 - safe))
    return found

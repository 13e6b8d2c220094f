"""Whether explanations name what matters: the named own items are taken out of the history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from persona_agent.recommend.data import Histories, HistoryLike, as_histories
from persona_agent.recommend.explain import Explanation
from persona_agent.recommend.metrics import PerUser
from persona_agent.recommend.port import Recommender


@dataclass(frozen=True, slots=True, eq=False)
class Faithfulness:
    """How much the score of the explained item falls, one number a person.

    `named` without the own items that the explanation names, `random` without as many others:
    the mean of several draws. An explanation is faithful if `named` is larger on average.
    """

    named: PerUser
    random: PerUser

    @property
    def share(self) -> float:
        """The share of people for whom the named items matter more than random ones."""
        return float((self.named > self.random).mean()) if len(self.named) else float("nan")


def faithfulness(
    model: Recommender, histories: HistoryLike, *, seed: int, own: int = 3, draws: int = 5
) -> Faithfulness:
    """Return the fall of the best recommendation's score without its explanation's own items.

    At most `own` of them are taken, the strongest first; random ones are of the items not taken.
    People whose history has fewer than twice as many items as were named are left out, as are
    those whose explanation names none.
    """
    people = as_histories(histories, model.items)
    best = model.recommend(people, 1)
    rng = np.random.default_rng(seed)
    changed: list[list[str]] = []
    columns: list[int] = []
    for history, item, column in zip(
        people.lists(), best.ids[:, 0], best.positions[:, 0], strict=True
    ):
        named = own_items(model.explain(history, item), history)[:own] if item else []
        others = [one for one in history if one not in named]
        if not named or len(others) < len(named):
            continue
        without = [named] + [
            rng.choice(others, len(named), replace=False).tolist() for _ in range(draws)
        ]
        changed.append(history)
        changed += [[one for one in history if one not in gone] for gone in without]
        columns += [int(column)] * (2 + draws)
    if not changed:
        return Faithfulness(np.zeros(0), np.zeros(0))
    found = model.score(Histories.of(changed, model.items))[np.arange(len(columns)), columns]
    table = found.reshape(-1, 2 + draws).astype(np.float64)
    fall = table[:, :1] - table[:, 1:]
    return Faithfulness(fall[:, 0], fall[:, 1:].mean(axis=1))


def own_items(explanation: Explanation, history: list[str]) -> list[str]:
    """Return the items of the history that speak for the item, of the strongest kind of reason.

    Of a persona's explanation only the responsible persona's items count.
    """
    speaking = [one for one in explanation.reasons if one.weight > 0]
    if speaking and speaking[0].kind == "persona":
        speaking = speaking[:1]
    return list(dict.fromkeys(one for reason in speaking for one in reason.ids if one in history))

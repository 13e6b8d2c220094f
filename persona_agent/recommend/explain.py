"""Why an item was recommended: as data, and as a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from persona_agent.types import Record

# item: an item of the user's own history; popularity: people chose the item, how many;
# persona: one of the user's tastes with the own items that support it; path: the nodes of a path
# through the graph from an own item to the recommended one.
ReasonKind: TypeAlias = Literal["item", "popularity", "persona", "path"]
NodeKind: TypeAlias = Literal["item", "entity"]


@dataclass(frozen=True, slots=True)
class Reason(Record):
    """One reason: what it is, the ids it rests on, and its part of the score.

    A path has besides its `relations`, one between each two ids (^ before one that is taken
    against its direction), and `nodes`, which say what each id is: an item and an entity may have
    the same id.
    """

    kind: ReasonKind
    ids: tuple[str, ...]
    weight: float
    relations: tuple[str, ...] = ()
    nodes: tuple[NodeKind, ...] = ()

    def path(self, name: Callable[[str], str], entity: Callable[[str], str]) -> str:
        """Return a path as text: nodes by `name` or `entity`, and the relations between them."""
        kinds = self.nodes or ("item",) * len(self.ids)
        named = [
            entity(one) if kind == "entity" else name(one)
            for one, kind in zip(self.ids, kinds, strict=True)
        ]
        between = self.relations or ("",) * (len(named) - 1)
        steps = zip(between, named[1:], strict=True)
        return named[0] + "".join(
            f" - {relation} - {node}" if relation else f" - {node}" for relation, node in steps
        )


@dataclass(frozen=True, slots=True)
class Explanation(Record):
    """Why `item` has `score`: the strongest reasons first.

    If `additive`, the weights of all reasons and `rest`, which is the sum of those not listed,
    add up to the score exactly; else weights say only which reason is stronger.
    """

    item: str
    score: float
    reasons: tuple[Reason, ...]
    rest: float = 0.0
    additive: bool = False

    def sentence(self, name: Callable[[str], str] = str, entity: Callable[[str], str] = str) -> str:
        """Return this as a sentence, with titles by `name` for items and by `entity` for others."""
        item = name(self.item)
        for_it = [one for one in self.reasons if one.weight > 0]
        if not for_it:
            return f"Nothing in the history speaks for {item}."
        if for_it[0].kind == "popularity":
            return f"{item} is popular: {for_it[0].weight:g} people chose it."
        if for_it[0].kind == "path":
            return f"{item}, by the path {for_it[0].path(name, entity)}."
        own = list(dict.fromkeys(name(one) for reason in for_it for one in reason.ids))
        if for_it[0].kind == "persona":
            own = [name(one) for one in for_it[0].ids]
            return f"{item}, for the side of you that chose {_listed(own)}."
        return f"{item}, because you chose {_listed(own)}."


def strongest(
    item: str, score: float, reasons: list[Reason], top: int | None, *, additive: bool
) -> Explanation:
    """Return an explanation by the `top` reasons of largest weight, either sign (None: all).

    Reasons of weight 0 are left out; ties keep their order. Raises ValueError if `top` < 0.
    """
    if top is not None and top < 0:
        raise ValueError(f"top is {top}; it must be 0 or more, or None for all reasons")
    ranked = sorted((one for one in reasons if one.weight), key=lambda one: -abs(one.weight))
    shown = len(ranked) if top is None else top
    rest = sum((one.weight for one in ranked[shown:]), 0.0)
    return Explanation(item, score, tuple(ranked[:shown]), rest, additive)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""What a user's memories say of items: which were seen, and which were liked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from persona_agent.bridge.catalogue import Catalogue
from persona_agent.types import Interaction, Record, Scope

# Whether what happened says that the user likes the item it is about.
Likes: TypeAlias = Callable[[Interaction], bool]


@dataclass(frozen=True, slots=True)
class ItemEvent(Record):
    """An interaction that is about an item: its id, the item's, and whether the item is liked."""

    id: str
    item: str
    liked: bool


@dataclass(frozen=True, slots=True)
class ItemHistory(Record):
    """The ids of the items that a user likes, and of those never to be recommended again.

    What is liked counts as seen, whether `seen` names it or not. Ids that a recommender does not
    know are left out where it is used.
    """

    liked: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


HistoryOf: TypeAlias = Callable[[Scope], ItemHistory]


class Past(Protocol):
    """Where a user's interactions are kept, such as the agent's store."""

    def get_all(self, scope: Scope) -> Sequence[Interaction]:
        """Return the interactions of a scope, oldest first; an unknown user has none."""
        ...


def rated(least: float) -> Likes:
    """Return the rule that an outcome which is a number likes from `least` on, and words do not."""

    def likes(interaction: Interaction) -> bool:
        try:
            return float(interaction.outcome or "") >= least
        except ValueError:
            return False

    return likes


LIKES = rated(4)


def item_events(
    interactions: Iterable[Interaction], catalogue: Catalogue, likes: Likes = LIKES
) -> list[ItemEvent]:
    """Return those of a user's own turns that are about an item of the catalogue, in their order.

    The item is the one whose id the interaction has; else the one whose title the outcome is;
    else the one whose title the query is. It is liked if `likes` says so, or if the outcome names
    it: then it was chosen.
    """
    found = []
    for one in interactions:
        if one.role != "user":
            continue
        chosen = None if one.outcome is None else catalogue.named(one.outcome)
        if one.item is not None and one.item in catalogue.items:
            position: int | None = int(catalogue.items.find([one.item])[0])
        else:
            position = catalogue.named(one.query) if chosen is None else chosen
        if position is not None:
            liked = likes(one) or chosen == position
            found.append(ItemEvent(one.id, str(catalogue.items.ids[position]), liked))
    return found


def item_history(events: Iterable[ItemEvent]) -> ItemHistory:
    """Return the history that these events make: the last about an item says if it is liked."""
    last = {one.item: one.liked for one in events}
    return ItemHistory(tuple(item for item, liked in last.items() if liked), tuple(last))


def remembered(past: Past, catalogue: Catalogue, likes: Likes = LIKES) -> HistoryOf:
    """Return a function that reads users' histories from where their interactions are kept."""
    return lambda scope: item_history(item_events(past.get_all(scope.owner), catalogue, likes))

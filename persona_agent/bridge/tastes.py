"""What a recommender finds of a user, as persona lines with the user's own items as evidence.

A persona recommender sees a user as several tastes, each held up by some of the user's items. Here
each is put into words, by what its items share or by a model, and proposed; the gate decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from persona_agent import prompts
from persona_agent.bridge.catalogue import Catalogue
from persona_agent.bridge.history import LIKES, Likes, item_events, item_history
from persona_agent.bridge.naming import Named, Namer, by_lift
from persona_agent.persona import MAX_LINE_CHARS, PersonaLine, clean_lines
from persona_agent.program import Program
from persona_agent.propose import Draft, Proposer, Situated

MOST_TASTES = 3
STRONGEST = 12  # own items that a taste is named after: more blur it
EXAMPLES = 3


class Taste(Protocol):
    """One of a user's tastes, as a recommender sees it, such as a `PersonaCard`."""

    @property
    def share(self) -> float:
        """How much of the user it is; compares within a user only."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The user's own items that hold it up, the strongest first; maybe none."""
        ...


# From the ids of what a user likes to the user's tastes; nothing else of the user is told.
TastesOf: TypeAlias = Callable[[Sequence[str]], Sequence[Taste]]


def taste_proposer(
    tastes_of: TastesOf,
    catalogue: Catalogue,
    *,
    likes: Likes = LIKES,
    name: Namer = by_lift,
    most: int = MOST_TASTES,
) -> Proposer:
    """Return a proposer of lines such as "Often chooses Film-Noir of the 1940s, such as Laura".

    The strongest `most` tastes are named, by `name`, after the 12 items that hold each up most.
    The first round proposes all together and each alone, later rounds each alone that is not in
    the persona. `tastes_of` is told only of items that the user liked before the gate's
    interactions; what its model was fitted on is for the caller to see to: not on the
    interactions that the gate judges by.
    """

    def propose(situated: Situated) -> Program[list[Draft]]:
        events = item_events(situated.history, catalogue, likes)
        liked = item_history(events).liked
        tastes = [one for one in tastes_of(liked) if one.ids] if liked else []
        tastes.sort(key=lambda one: -one.share)
        groups = [catalogue.items.positions(one.ids[:STRONGEST]).tolist() for one in tastes[:most]]
        named = yield from name(catalogue, groups)
        evidence: dict[str, list[str]] = {}
        for event in events:
            if event.liked:
                evidence.setdefault(event.item, []).append(event.id)
        lines = [_line(catalogue, one, evidence) for one in named if one is not None]
        return _drafts(situated, [one for one in lines if one is not None])

    return propose


def _line(
    catalogue: Catalogue, named: Named, evidence: Mapping[str, Sequence[str]]
) -> PersonaLine | None:
    """Return a taste as a line; None if it cannot be one, or no interaction shows it.

    Its examples are the first that the user liked and whose titles may stand in a persona, as
    many as fit.
    """
    own = [at for at in named.items if str(catalogue.items.ids[at]) in evidence]
    ids = [one for at in own for one in evidence[str(catalogue.items.ids[at])]]
    titles = [catalogue.name(at) for at in own if catalogue.titled[at]]
    usable = [title for title in titles if clean_lines([title], "recommender", ())[0]]
    for count in range(min(len(usable), EXAMPLES), 0, -1):
        said = prompts.text("lines", "chooses", what=named.what, titles=_listed(usable[:count]))
        if len(said) <= MAX_LINE_CHARS:
            lines, _ = clean_lines([said], "recommender", ids)
            return lines[0] if lines else None
    return None


def _drafts(situated: Situated, lines: Sequence[PersonaLine]) -> list[Draft]:
    known = {line.id for line in situated.lines}
    new = [line for line in dict.fromkeys(lines) if line.id not in known]
    picks = [[line] for line in new]
    if len(new) > 1 and not situated.round:
        picks.insert(0, new)
    return [
        Draft(
            (*situated.lines, *pick),
            "recommender",
            "adds " + "; ".join(line.text for line in pick),
        )
        for pick in picks
    ]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

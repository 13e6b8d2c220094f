"""A recommender as tools of the agent: recommend, explain, similar.

No id enters a prompt. Candidates stay on the bus; the model sees at most twenty titles, each with
a number by which it can ask why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from persona_agent.bridge.bus import CandidateBus
from persona_agent.bridge.catalogue import Catalogue, Wish
from persona_agent.bridge.history import HistoryOf
from persona_agent.prompts import as_data, text
from persona_agent.recommend.data import BoolArray
from persona_agent.recommend.explain import Explanation
from persona_agent.recommend.port import Recommender
from persona_agent.tools import FunctionTool
from persona_agent.types import Scope

MOST_SHOWN = 20

Count = Annotated[int, Field(ge=1, le=MOST_SHOWN)]


class RecommenderTools:
    """The tools of one fitted recommender, for all users of an agent.

        films = Catalogue(model.items, table, noun="film")
        tools = RecommenderTools(model, films, remembered(agent.memory.store, films)).all
        agent.ask("What should I watch?", user_id="alice", tools=tools)

    What a user has seen is never recommended, and who likes nothing yet gets what is popular.
    Users are kept apart by their scopes. Safe to use from many threads if the model is, as the
    recommenders here are. It is a `Forgetter`: give it to the agent as one.
    """

    def __init__(
        self,
        model: Recommender,
        catalogue: Catalogue,
        history_of: HistoryOf,
        *,
        entities: Mapping[str, str] | None = None,
        bus: CandidateBus | None = None,
    ) -> None:
        """Use a fitted model and the catalogue of its items; `history_of` says what users like.

        `entities` names the nodes of a graph by which a model explains itself; a node without a
        name is left out of the path that is told. Raises ValueError for another model's catalogue.
        """
        if model.items != catalogue.items:
            raise ValueError(
                f"the catalogue has {len(catalogue)} items and the model {len(model.items)}; "
                "make the catalogue of model.items"
            )
        self.catalogue = catalogue
        self.bus = CandidateBus() if bus is None else bus
        self._model = model
        self._history_of = history_of
        self._entities = dict(entities or {})

    @property
    def all(self) -> list[FunctionTool]:
        """The tools: recommend, explain, similar."""
        return [FunctionTool(one) for one in (self.recommend, self.explain, self.similar)]

    def recommend(
        self,
        scope: Scope,
        k: Count = 10,
        must: Wish | None = None,
        must_not: Wish | None = None,
        among_last: bool = False,
    ) -> str:
        """Recommends what this person has not seen, best first, each with a number. Wishes are
        genres (all of them), from_year, to_year and words of the title; among_last keeps to what
        was found last.

        Raises ValueError for a wish that nothing could fulfil, such as an unknown genre.
        """
        allowed = self.catalogue.matching(must, must_not)
        if among_last:
            allowed &= self._last(scope)
        history = self._history_of(scope)
        liked = self._known(history.liked)
        found = self._ranked(liked, allowed, self._known(history.seen))
        return self._shown(scope, found, k, "found" if liked else "popular")

    def explain(self, scope: Scope, item: int | str) -> str:
        """Tells why something suits this person. Give its number, or its title.

        Raises ValueError for a number or title that is not known, naming what is near.
        """
        position = self._position(scope, item)
        liked = self._known(self._history_of(scope).liked)
        explanation = self._model.explain(liked, str(self.catalogue.items.ids[position]))
        return self._nameable(explanation).sentence(self._name)

    def similar(self, scope: Scope, item: int | str, k: Count = 10) -> str:
        """Finds what people choose who choose this, without what this person has seen. Give a
        number or a title.

        Raises ValueError for a number or title that is not known, naming what is near.
        """
        position = self._position(scope, item)
        seen = self._history_of(scope)
        denied = self._known((*seen.liked, *seen.seen))
        wanted = [str(self.catalogue.items.ids[position])]
        found = self._ranked(wanted, self.catalogue.titled, denied)
        return self._shown(scope, found, k, "similar", title=self.catalogue.name(position))

    def forget(self, scope: Scope) -> int:
        """Forget what a user was shown; return of how many agents and runs."""
        return self.bus.forget(scope)

    def _ranked(self, liked: list[str], allowed: BoolArray, denied: list[str]) -> list[str]:
        allow = self.catalogue.items.ids[np.flatnonzero(allowed)].tolist()
        most = self.bus.most_candidates
        return self._model.recommend([liked], most, allow=allow, deny=denied).lists()[0]

    def _shown(self, scope: Scope, found: list[str], k: int, section: str, **fields: str) -> str:
        if not found:
            return text("recommend", "nothing")
        numbers = self.bus.put(scope, found, k)
        positions = self.catalogue.items.positions(found[:k]).tolist()
        titles = [
            f"{number}. {self.catalogue.text(position)}"
            for number, position in zip(numbers, positions, strict=True)
        ]
        return text("recommend", section, titles="; ".join(titles), **fields)

    def _last(self, scope: Scope) -> BoolArray:
        last = self.bus.candidates(scope)
        if not last:
            raise ValueError("nothing was found yet to choose among; leave among_last out")
        mask = np.zeros(len(self.catalogue), bool)
        mask[self.catalogue.items.positions(last)] = True
        return mask

    def _position(self, scope: Scope, item: int | str) -> int:
        """Return what a number or a title stands for; a number that was shown comes first."""
        number = item if isinstance(item, int) else _number(item)
        if number is None:
            return self.catalogue.find(str(item))
        shown = self.bus.item(scope, number)
        if shown is not None:
            return int(self.catalogue.items.positions([shown])[0])
        titled = self.catalogue.named(str(item))
        if titled is None:
            raise ValueError(f"no {self.catalogue.noun} was shown as number {number}")
        return titled

    def _known(self, items: Sequence[str]) -> list[str]:
        return [one for one in dict.fromkeys(items) if one in self.catalogue.items]

    def _name(self, node: str) -> str:
        (position,) = self.catalogue.items.find([node]).tolist()
        if position >= 0 and self.catalogue.titled[position]:
            return self.catalogue.name(position)
        return as_data(self._entities.get(node, ""), 80)

    def _nameable(self, explanation: Explanation) -> Explanation:
        """Return the explanation without what has no name, so that it shows no id."""
        named = [
            replace(reason, ids=tuple(one for one in reason.ids if self._name(one)))
            for reason in explanation.reasons
        ]
        return replace(explanation, reasons=tuple(one for one in named if one.ids))


def _number(item: str) -> int | None:
    plain = item.strip().removeprefix("#").rstrip(".")
    return int(plain) if plain.isascii() and plain.isdigit() else None

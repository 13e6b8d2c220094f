"""The recommender that a server offers: a saved model, the names of its items, who saw what."""

from __future__ import annotations

from dataclasses import dataclass

from persona_agent.bridge.catalogue import Catalogue, Wish
from persona_agent.bridge.history import HistoryOf, remembered
from persona_agent.bridge.tools import RecommenderTools
from persona_agent.chat.domain import Domain
from persona_agent.chat.tables import from_csv
from persona_agent.memory.store import Store
from persona_agent.recommend.explain import Explanation, Reason
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.readers import read_items
from persona_agent.recommend.saved import open_saved
from persona_agent.serve.config import RecommendPart
from persona_agent.types import Record, Scope


@dataclass(frozen=True, slots=True)
class Offer(Record):
    """A recommended item: what it is called, its score within this list, and why, in a sentence."""

    item: str
    title: str
    year: int
    genres: tuple[str, ...]
    score: float
    why: str


class Shop:
    """A fitted recommender for all users of a server."""

    def __init__(
        self, model: Recommender, catalogue: Catalogue, history_of: HistoryOf, domain: Domain
    ) -> None:
        self.domain = domain
        self.catalogue = catalogue
        self.tools = RecommenderTools(model, catalogue, history_of)
        self._model = model
        self._history_of = history_of

    def recommend(
        self, scope: Scope, k: int, must: Wish | None, must_not: Wish | None
    ) -> list[Offer]:
        """Return the best `k` items that the user has not seen, best first.

        Who likes nothing yet gets what is popular. Raises ValueError for a wish that nothing
        could fulfil.
        """
        history = self._history_of(scope.owner)
        liked, seen = self._known(history.liked), self._known(history.seen)
        allowed = self.catalogue.matching(must, must_not)
        allow = [str(one) for one in self.catalogue.items.ids[allowed].tolist()]
        (items,) = self._model.recommend([liked], k, allow=allow, deny=seen).lists()
        if not items:
            return []
        (scores,) = self._model.score([liked], items).tolist()
        return [self._offer(item, score, liked) for item, score in zip(items, scores, strict=True)]

    def explain(self, scope: Scope, item: str) -> Explanation:
        """Return why an item, by its id, suits the user; raises KeyError if there is none."""
        if item not in self.catalogue.items:
            raise KeyError(f"there is no {self.catalogue.noun} {item!r}")
        return self._model.explain(self._known(self._history_of(scope.owner).liked), item)

    def sentence(self, explanation: Explanation) -> str:
        """Return an explanation in a sentence, with titles for ids."""
        return explanation.sentence(self.title)

    def title(self, item: str) -> str:
        """Return what an item is called; its id where it has no title."""
        (position,) = self.catalogue.items.find([item]).tolist()
        named = position >= 0 and self.catalogue.titled[position]
        return self.catalogue.name(position) if named else item

    def titles(self, reason: Reason) -> list[str]:
        """Return what the ids of a reason are called; an entity of a path is its own title."""
        kinds = reason.nodes or ("item",) * len(reason.ids)
        return [
            self.title(one) if kind == "item" else one
            for one, kind in zip(reason.ids, kinds, strict=True)
        ]

    def _offer(self, item: str, score: float, liked: list[str]) -> Offer:
        (position,) = self.catalogue.items.positions([item]).tolist()
        why = self.sentence(self._model.explain(liked, item))
        return Offer(
            item,
            self.catalogue.titles[position],
            int(self.catalogue.years[position]),
            self.catalogue.genres[position],
            float(score),
            why,
        )

    def _known(self, items: tuple[str, ...]) -> list[str]:
        return [one for one in dict.fromkeys(items) if one in self.catalogue.items]


def open_shop(part: RecommendPart, store: Store) -> Shop:
    """Return the shop that a configuration names; raises InputError or BackendError."""
    model = open_saved(part.folder)
    catalogue = Catalogue(model.items, read_items(part.items), noun=part.noun)
    domain = from_csv(part.items, noun=part.noun, model=model)
    return Shop(model, catalogue, remembered(store, catalogue), domain)

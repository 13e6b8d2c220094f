"""What a conversation is about: items, their attributes, who recommends them, how to ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import numpy as np
import numpy.typing as npt

from persona_agent.bridge.catalogue import Catalogue
from persona_agent.prompts import as_data
from persona_agent.recommend.data import BoolArray
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.explain import Explanation
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.port import Recommender
from persona_agent.sensitive import categories
from persona_agent.types import check_id

MAX_NAME_CHARS = 80
FLATTENING = 10  # a prior of 1 / (10 + rank): the best item is 1.9 times as likely as the tenth


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Items with attributes, and how they are spoken of. Build it with `of`.

    `noun` is what an item is called, `plural` what several are. `asks` names the question of each
    kind of attribute, a section of the prompt "chat" without its "ask_"; kinds that it does not
    name are asked by "kind". `aliases` are other names of attributes. `catalogue` has what items
    are called for people; one without a title is never recommended. `askable` are the attributes
    that may be asked about: nothing that is sensitive.
    """

    name: str
    table: AttributeTable
    catalogue: Catalogue
    noun: str
    plural: str
    model: Recommender | None
    asks: Mapping[str, str]
    aliases: Mapping[str, Sequence[str]]
    askable: BoolArray
    _kind: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(
        cls,
        name: str,
        table: AttributeTable,
        *,
        noun: str = "item",
        plural: str | None = None,
        model: Recommender | None = None,
        years: Mapping[str, int] | None = None,
        asks: Mapping[str, str] | None = None,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """Return a domain; with a fitted `model` it is about the items that the model knows.

        `years` tell namesakes apart. Raises ValueError for a table without items or attributes.
        """
        check_id(name, "domain")
        table = table if model is None else table.on(model.items)
        if not len(table) or not len(table.attributes):
            raise ValueError(
                f"domain {name!r} has {len(table)} items and {len(table.attributes)} attributes; "
                "there must be some of each"
            )
        kinds = list(table.kinds)
        first = {
            attribute: kinds[int(row.indices[0])]
            for attribute, row in zip(table.attributes, table.kinds_of, strict=True)
        }
        return cls(
            name,
            table,
            Catalogue(table.items, _titles(table, years or {}), noun=noun),
            noun,
            plural or f"{noun}s",
            model,
            MappingProxyType(dict(asks or {})),
            MappingProxyType(dict(aliases or {})),
            np.array([not categories(one) for one in table.attribute_names], bool),
            MappingProxyType(first),
        )

    def attribute(self, one: str) -> str:
        """Return what an attribute is called, as harmless data."""
        (position,) = self.table.attributes.positions([one]).tolist()
        return as_data(self.table.attribute_names[position], MAX_NAME_CHARS)

    def kind(self, attribute: str) -> str:
        """Return the first kind of an attribute."""
        return self._kind[attribute]

    def item(self, one: str) -> str:
        """Return what an item is called, with its year, as harmless data."""
        (position,) = self.table.items.positions([one]).tolist()
        return self.catalogue.name(position) or one

    def attributes_of(self, item: str) -> tuple[str, ...]:
        """Return the ids of an item's attributes."""
        (position,) = self.table.items.positions([item]).tolist()
        found = self.table.attributes.ids[self.table.attributes_of(position)]
        return tuple(found.tolist())

    def known(self, items: Sequence[str]) -> list[str]:
        """Return those of these ids that are items here, each once."""
        return [one for one in dict.fromkeys(items) if one in self.table.items]

    def prior(self, liked: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return how likely each item is wanted by somebody who likes these, of shape (items,).

        By rank of the model's scores, 1 / (10 + rank), since scores of different models have
        different scales; without a model all alike. Items without a title get 0. Sums to 1.
        """
        weights = np.ones(len(self.table))
        if self.model is not None:
            scores = self.model.score([self.known(liked)])[0]
            order = np.argsort(-scores, kind="stable")
            weights[order] = 1 / (FLATTENING + np.arange(len(order)))
        weights = np.where(self.catalogue.titled, weights, 0)
        found: npt.NDArray[np.float64] = weights / max(weights.sum(), np.finfo(float).tiny)
        return found

    def explain(self, liked: Sequence[str], item: str) -> Explanation | None:
        """Return why the model recommends an item; None without a model or without liked items."""
        own = self.known(liked)
        if self.model is None or not own:
            return None
        return self.model.explain(own, item, top=2)


def _titles(table: AttributeTable, years: Mapping[str, int]) -> ItemTable:
    """Return what items are called; one that is called by its number has no title."""
    ids = IdMap.ordered(list(table.items), "item")
    named = zip(ids, table.item_names, strict=True)
    return ItemTable(
        ids,
        tuple("" if name == one and name.isdigit() else name for one, name in named),
        ((),) * len(ids),
        tuple(years.get(one, 0) for one in ids),
    )

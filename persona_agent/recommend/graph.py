"""A knowledge graph: facts as triples, and which entity each item is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.errors import InputError
from persona_agent.recommend.ids import IdMap, IntArray

BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Facts as triples, and which entity each item is.

    `heads` and `tails` are positions in `entities`, `kinds` in `relations`; `linked` are item ids
    and `linked_to` their entities' positions.
    """

    entities: IdMap
    relations: IdMap
    heads: IntArray
    kinds: IntArray
    tails: IntArray
    linked: IdMap
    linked_to: IntArray

    @classmethod
    def of(cls, triples: Iterable[tuple[str, str, str]], links: Mapping[str, str]) -> Graph:
        """Return a graph of (head, relation, tail) and item -> entity; equal triples count once.

        Raises InputError if two items are the same entity. A link to an entity that has no
        triples is kept: the entity stands alone.
        """
        facts = sorted(set(triples))
        entities = IdMap(
            [*(h for h, _, _ in facts), *(t for _, _, t in facts), *links.values()], "entity"
        )
        relations = IdMap((r for _, r, _ in facts), "relation")
        linked = IdMap(links, "item")
        linked_to = entities.positions(links[item] for item in linked)
        if len(np.unique(linked_to)) != len(linked_to):
            several = np.flatnonzero(np.bincount(linked_to) > 1)
            raise InputError(
                f"entity {entities.ids[several[0]]!r} is linked from more than one item; "
                "an entity can be one item at most"
            )
        return cls(
            entities,
            relations,
            entities.positions(h for h, _, _ in facts),
            relations.positions(r for _, r, _ in facts),
            entities.positions(t for _, _, t in facts),
            linked,
            linked_to,
        )

    def __len__(self) -> int:
        return len(self.heads)

    def __repr__(self) -> str:
        return (
            f"Graph({len(self)} triples of {len(self.entities)} entities, "
            f"{len(self.relations)} relations, {len(self.linked)} linked items)"
        )

    def entity_of(self, items: IdMap) -> IntArray:
        """Return the entity of each item, -1 where none is linked."""
        at = self.linked.find(items)
        return np.where(at >= 0, self.linked_to[np.maximum(at, 0)] if len(self.linked) else -1, -1)

    def relinked(self, items: Mapping[str, str]) -> Graph:
        """Return this graph with its items under other names; those that have none are unlinked.

        Raises InputError if two items would get one name.
        """
        kept = [at for at, item in enumerate(self.linked) if item in items]
        names = [items[self.linked.ids[at]] for at in kept]
        linked = IdMap(names, "item")
        if len(linked) != len(names):
            raise InputError(f"{len(names) - len(linked)} items would get a name twice")
        places = np.empty(len(kept), np.int64)
        places[linked.positions(names)] = self.linked_to[kept]
        return dataclasses.replace(self, linked=linked, linked_to=places)

    def shuffled(self, seed: int) -> Graph:
        """Return this graph with the tails of each relation dealt anew among its triples.

        Every entity keeps how often it is head and tail of each relation, and no fact is true but
        by chance: the control for whether facts matter. A triple may come twice then.
        """
        random = np.random.default_rng(seed).random(len(self))
        tails = np.empty_like(self.tails)
        tails[np.argsort(self.kinds, kind="stable")] = self.tails[np.lexsort((random, self.kinds))]
        return dataclasses.replace(self, tails=tails)

    def trimmed(self, items: IdMap) -> Graph:
        """Return what of this graph can join these items: it has no dead ends.

        Entities with one neighbour are left out, again and again; they carry nothing from one
        item to another. Entities that are left are those of a triple or of one of the items.
        """
        own = self.entity_of(items)
        is_item = np.zeros(len(self.entities), bool)
        is_item[own[own >= 0]] = True
        kept = self.heads != self.tails
        while True:
            low = np.minimum(self.heads, self.tails)[kept]
            high = np.maximum(self.heads, self.tails)[kept]
            ends = np.unique(np.column_stack([low, high]), axis=0)
            degree = np.bincount(ends.ravel(), minlength=len(self.entities))
            lives = is_item | (degree > 1)
            going_on = kept & lives[self.heads] & lives[self.tails]
            if np.array_equal(going_on, kept):
                return self._within(is_item | (degree > 0), kept)
            kept = going_on

    def _within(self, entities: BoolArray, triples: BoolArray) -> Graph:
        """Return these triples and links over these entities, which hold all that are named."""
        place = np.cumsum(entities) - 1
        links = np.flatnonzero(entities[self.linked_to])
        return dataclasses.replace(
            self,
            entities=self.entities.take(np.flatnonzero(entities)),
            heads=place[self.heads[triples]],
            kinds=self.kinds[triples],
            tails=place[self.tails[triples]],
            linked=self.linked.take(links),
            linked_to=place[self.linked_to[links]],
        )

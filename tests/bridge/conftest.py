"""A small world of films: three genres of twelve, each from its decade; people like one or two."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import numpy as np
import pytest

from persona_agent.bridge.catalogue import Catalogue
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.types import Interaction, Scope

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {"Film-Noir": ("Shadow", 1940), "Musical": ("Song", 1950), "Sci-Fi": ("Planet", 1990)}
WORDS = "Ash Bay Cat Dew Elm Fox Gem Hat Ink Jam Key Log".split()
EACH = len(WORDS)

Watch: TypeAlias = Callable[..., Interaction]


def film(kind: int, number: int) -> str:
    """The id of a film; it looks like nothing else that stands in a text."""
    return f"zq{kind}{number:02}"


@pytest.fixture(scope="session")
def table() -> ItemTable:
    rows = [
        (film(kind, number), f"{word} {noun}", (genre,), decade + number % 10)
        for kind, (genre, (noun, decade)) in enumerate(KINDS.items())
        for number, word in enumerate(WORDS)
    ]
    ids, titles, genres, years = zip(*rows, strict=True)
    return ItemTable(IdMap.ordered(ids, "item"), titles, genres, years)


@pytest.fixture(scope="session")
def model() -> EASE:
    """EASE of sixty people, each of whom likes eight films of one kind and one of the next."""
    rng = np.random.default_rng(0)
    users, items = [], []
    for person in range(60):
        own = [film(person % 3, int(one)) for one in rng.choice(EACH, 8, replace=False)]
        own.append(film((person + 1) % 3, int(rng.integers(EACH))))
        users += [f"u{person:02}"] * len(own)
        items += own
    return EASE(l2=20.0).fit(Interactions.of(users, items))


@pytest.fixture(scope="session")
def films(model: EASE, table: ItemTable) -> Catalogue:
    return Catalogue(model.items, table, noun="film")


@pytest.fixture(scope="session")
def watch(table: ItemTable) -> Watch:
    """Makes a rating: of a film's id, in stars, at an hour."""

    def rated(
        item: str, stars: int, hour: int = 0, *, user: str = "alice", tenant: str = "default"
    ) -> Interaction:
        (row,) = table.ids.positions([item]).tolist()
        return Interaction(
            Scope(user, tenant),
            START + timedelta(hours=hour),
            f"{table.titles[row]}, {table.genres[row][0]}",
            outcome=str(stars),
            item=item,
            metadata={
                "genres": list(table.genres[row]),
                "query_label": "Film",
                "outcome_label": "Rating",
                "item_name": "film",
            },
        )

    return rated

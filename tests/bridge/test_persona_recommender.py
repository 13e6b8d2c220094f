"""With a real persona recommender: people of two tastes are told of both, and why by one of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from persona_agent.bridge.catalogue import Catalogue
from persona_agent.bridge.history import ItemHistory
from persona_agent.bridge.naming import by_lift
from persona_agent.bridge.tools import RecommenderTools
from persona_agent.drive import Ports, run
from persona_agent.recommend.amp_cf import AMPCF
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.personas import persona_cards
from persona_agent.types import Scope

KINDS = ("Film-Noir", "Musical", "Sci-Fi")
PAIRS = ((0, 1), (1, 2), (2, 0))


@pytest.fixture(scope="module")
def personas() -> AMPCF:
    """AMP-CF of ninety people, each of whom likes six films of each of two kinds."""
    rng = np.random.default_rng(0)
    users, items = [], []
    for person in range(90):
        own = [
            f"zq{kind}{number:02}"
            for kind in PAIRS[person % 3]
            for number in rng.choice(12, 6, replace=False)
        ]
        users += [f"u{person:02}"] * len(own)
        items += own
    made = AMPCF(personas=2, width=8, epochs=60, l2=2.0, confident=0.5, device="cpu")
    return made.fit(Interactions.of(users, items))


def liked(pair: tuple[int, int]) -> list[str]:
    return [f"zq{kind}{number:02}" for kind in pair for number in (1, 3, 4, 6, 8, 9)]


def test_cards_of_people_of_two_tastes_are_named_after_them(
    personas: AMPCF, table: ItemTable
) -> None:
    films = Catalogue(personas.items, table, noun="film")
    both = 0
    for pair in PAIRS:
        cards = persona_cards(personas, liked(pair), own=None)
        groups = [films.items.positions(card.ids).tolist() for card in cards]
        said = {one.what for one in run(by_lift(films, groups), Ports()) if one is not None}
        assert said <= {KINDS[kind] for kind in pair}
        both += len(said) == 2
    assert both >= 2  # what is learned from ninety people may blur for one of them


def test_the_tool_tells_the_side_of_the_user_that_speaks(personas: AMPCF, table: ItemTable) -> None:
    films = Catalogue(personas.items, table, noun="film")
    tools = RecommenderTools(personas, films, lambda scope: ItemHistory(tuple(liked((0, 1)))))
    tools.recommend(Scope("alice"), 3)
    said = tools.explain(Scope("alice"), 1)
    assert re.match(r".+ \(19\d\d\), for the side of you that chose .+\.$", said)
    assert "zq" not in said

"""A small world of items and attributes, and who wants what, that the dialogue tests share."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue.table import AttributeTable


def small_table(items: int = 60, attributes: int = 14, seed: int = 1) -> AttributeTable:
    """Return items with common and rare attributes, of two kinds; every item has one or more."""
    rng = np.random.default_rng(seed)
    odds = np.linspace(0.6, 0.05, attributes)
    chosen = rng.random((items, attributes)) < odds
    chosen[np.arange(items), rng.integers(0, attributes, items)] = True
    return AttributeTable.of(
        ((f"i{item:02}", f"a{attribute:02}") for item, attribute in np.argwhere(chosen).tolist()),
        kinds={f"a{one:02}": ("even",) if one % 2 == 0 else ("odd",) for one in range(attributes)},
    )


def wishes(table: AttributeTable, users: int = 12, seed: int = 2) -> Interactions:
    """Return a few random items for each user, over the table's items."""
    rng = np.random.default_rng(seed)
    rows = [(u, i) for u in range(users) for i in rng.choice(len(table), 6, replace=False)]
    made = Interactions.of([f"u{u:02}" for u, _ in rows], [table.items.ids[i] for _, i in rows])
    item = table.items.positions(made.items)[made.item]
    return Interactions(made.users, table.items, made.user, item, made.values)


@pytest.fixture(scope="session")
def table() -> AttributeTable:
    return small_table()


@pytest.fixture(scope="session")
def wanted(table: AttributeTable) -> Interactions:
    return wishes(table)

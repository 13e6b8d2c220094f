"""What memories say of items: named by id or title, liked by stars or by choice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from persona_agent.bridge.catalogue import Catalogue
from persona_agent.bridge.history import (
    ItemHistory,
    item_events,
    item_history,
    rated,
    remembered,
)
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(query: str, outcome: str | None = None, hour: int = 0, **more: Any) -> Interaction:
    return Interaction(
        Scope("alice"), START + timedelta(hours=hour), query, outcome=outcome, **more
    )


@pytest.mark.parametrize(
    ("one", "liked"),
    [
        (event("whatever", "4", item="zq000"), True),
        (event("whatever", "3.5", item="zq000"), False),
        (event("whatever", item="zq000"), False),
        (event("whatever", "hated it", item="zq000"), False),
        (event("whatever", "ash shadow (1940)", item="zq000"), True),
        (event("Which of these?", "Ash Shadow"), True),
        (event("Ash Shadow (1940)", "5"), True),
        (event("Ash Shadow", "2"), False),
        (event("Ash Shadow", "not for me"), False),
    ],
)
def test_an_item_is_named_by_id_choice_or_query(
    films: Catalogue, one: Interaction, liked: bool
) -> None:
    assert [(e.item, e.liked, e.id) for e in item_events([one], films)] == [
        ("zq000", liked, one.id)
    ]


def test_what_is_about_no_item_or_not_the_users_own_counts_for_nothing(films: Catalogue) -> None:
    others = [
        event("Nice weather", "5"),
        event("x", "5", item="unknown"),
        event("Ash Shadow", "5", role="assistant"),
        event("Ash Shadow", "5", role="tool", item="zq000"),
    ]
    assert item_events(others, films) == []
    assert item_history([]) == ItemHistory()


def test_the_last_word_on_an_item_counts_and_it_stays_seen(films: Catalogue) -> None:
    told = [
        event("", "5", 0, item="zq000"),
        event("", "5", 1, item="zq001"),
        event("", "1", 2, item="zq000"),
    ]
    assert item_history(item_events(told, films)) == ItemHistory(("zq001",), ("zq000", "zq001"))
    lenient = item_history(item_events(told, films, rated(1)))
    assert lenient.liked == ("zq000", "zq001")


def test_a_store_tells_of_the_user_whatever_agent_and_run_asks_and_of_nobody_else(
    films: Catalogue,
) -> None:
    with Store.open(":memory:") as store:
        rows = [("alice", "default", "zq000"), ("bob", "default", "zq001"), ("alice", "t", "zq002")]
        told = [
            Interaction(Scope(user, tenant, run="r"), START, "", outcome="5", item=item)
            for user, tenant, item in rows
        ]
        store.add(told, now=START)
        history_of = remembered(store, films)
        assert history_of(Scope("alice", run="other")) == ItemHistory(("zq000",), ("zq000",))
        assert history_of(Scope("alice", "t")).liked == ("zq002",)
        assert history_of(Scope("stranger")) == ItemHistory()

"""Task sets: what they refuse, sampling, and the cut in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.errors import NotEnoughData
from persona_agent.eval.tasks.opening import open_task
from persona_agent.eval.tasks.task_set import TaskSet, split_by_time
from persona_agent.task import Task
from persona_agent.types import Interaction, Scope

START = datetime(2024, 1, 1, tzinfo=UTC)


def did(user: str, hour: int, outcome: str | None = "yes") -> Interaction:
    return Interaction(Scope(user), START + timedelta(hours=hour), f"at {hour}", outcome)


def tasks(users: str = "ab") -> TaskSet:
    return TaskSet(
        "small",
        Task("choice", options=("yes", "no")),
        {user: (did(user, 0), did(user, 1)) for user in users},
        tuple(did(user, hour) for user in users for hour in (2, 3, 4)),
        "Say what this person chooses.",
        ("accuracy", "macro_f1"),
    )


def test_a_set_that_is_made_of_lists_holds_tuples_that_cannot_change() -> None:
    found = replace(tasks(), metrics=["accuracy"])  # type: ignore[arg-type]  # what callers give
    assert found.metrics == ("accuracy",)
    assert found.users == ("a", "b")
    assert [one.query for one in found.queries_of("b")] == ["at 2", "at 3", "at 4"]
    with pytest.raises(TypeError):
        found.histories["c"] = ()  # type: ignore[index]  # the point


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"histories": {"a": (did("a", 2),)}}, "must be later than the history, which ends at"),
        ({"histories": {"a": (did("a", 1), did("a", 0))}}, "put interactions in time order"),
        ({"histories": {"a": (did("b", 0),)}}, "the history of 'a' holds"),
        ({"histories": {"a": (did("a", 0, None),)}}, "has no outcome of the user's own"),
        ({"histories": {"a": (did("a", 0, "maybe"),)}}, "'maybe'; it must be one of"),
        ({"histories": {}}, "without a history: .'a'.; give"),
        ({"histories": {"a": (), "b": ()}}, "users have no query: .'b'."),
        ({"queries": ()}, "users have no query"),
        ({"queries": (did("a", 2), did("a", 2))}, "queries are there twice"),
        ({"queries": (did("a", 3), did("a", 2))}, "put interactions in time order"),
        ({"queries": (did("a", 2, "maybe"),)}, "'maybe'; it must be one of"),
        ({"queries": (did("a", 2, None),)}, "has no outcome"),
        ({"metrics": ()}, "give one or more of accuracy"),
        ({"metrics": ("bleu",)}, "'bleu'.* unknown"),
        ({"instruction": ""}, "needs a name and an instruction"),
    ],
)
def test_a_set_that_cannot_be_trusted_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(tasks("a"), **changes)  # type: ignore[arg-type]  # fields by name


def test_the_queries_of_a_user_stand_together_in_the_order_of_the_users() -> None:
    made = tasks()
    with pytest.raises(ValueError, match="not in the order of the histories"):
        replace(made, queries=made.queries[::-1])
    mixed = (made.queries[0], made.queries[3], made.queries[1])
    with pytest.raises(ValueError, match="do not stand together"):
        replace(made, queries=mixed)


def test_a_sample_is_of_whole_users_with_their_first_queries() -> None:
    made = tasks("abcdef")
    small = made.sample(users=3, queries_per_user=2, seed=1)
    assert len(small.users) == 3
    assert small == made.sample(users=3, queries_per_user=2, seed=1)
    assert {made.sample(users=3, seed=seed).users for seed in range(5)} != {small.users}
    assert list(small.users) == sorted(small.users)
    assert [one.query for one in small.queries_of(small.users[0])] == ["at 2", "at 3"]
    assert made.sample(users=99) == made
    with pytest.raises(ValueError, match="users is 0; it must be at least 1"):
        made.sample(users=0)


hours = st.lists(st.integers(0, 6), min_size=1, max_size=12).map(sorted)


@given(st.lists(hours, min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 3))
def test_a_cut_in_time_never_parts_a_moment(users: list[list[int]], last: int, least: int) -> None:
    lines = [
        [
            Interaction(Scope(f"u{user}"), START + timedelta(hours=hour), "q", "yes", id=f"{i}")
            for i, hour in enumerate(timeline)
        ]
        for user, timeline in enumerate(users)
    ]
    try:
        histories, queries = split_by_time(lines, last=last, least=least)
    except NotEnoughData:
        histories, queries = {}, ()
    for line in lines:
        user = line[0].scope.user
        asked = [one for one in queries if one.scope.user == user]
        if user in histories:
            assert [*histories[user], *asked] == line
            assert 1 <= len(asked) <= last
            assert len(histories[user]) >= least
            assert all(a.when < b.when for a in histories[user] for b in asked)


def test_a_cut_leaves_out_who_has_too_little() -> None:
    lines = [[did("a", 0), did("a", 1)], [did("b", 0)], [did("c", 0), did("c", 0, "no")]]
    histories, queries = split_by_time(lines, last=1)
    assert list(histories) == ["a"]
    assert [one.scope.user for one in queries] == ["a"]
    with pytest.raises(NotEnoughData, match="no user has 5 interactions"):
        split_by_time(lines, last=1, least=5)


def test_an_unknown_task_is_refused_with_the_known() -> None:
    with pytest.raises(ValueError, match="there is no task 'chess'; there are ml-rating"):
        open_task("chess")


@pytest.mark.real("data")
def test_ratings_of_real_films() -> None:
    found = open_task("ml-rating")
    assert len(found.users) > 800
    assert all(len(history) >= 12 for history in found.histories.values())
    assert found.queries[0].metadata["genres"]
    assert found.queries[0].item is not None

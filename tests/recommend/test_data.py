"""Interactions and histories: ids outside, positions inside, one row a pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.errors import InputError
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable

ROWS = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sampled_from("stuvwxyz"), st.integers(1, 5)),
    min_size=1,
    max_size=60,
)


def made(rows: list[tuple[str, str, int]]) -> Interactions:
    users, items, values = zip(*rows, strict=True)
    return Interactions.of(users, items, values, duplicates="max")


def pairs(data: Interactions) -> dict[tuple[str, str], float]:
    owners, things = data.users.ids[data.user], data.items.ids[data.item]
    return dict(zip(zip(owners, things, strict=True), data.values.tolist(), strict=True))


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(
    rows: list[tuple[str, str, int]], random: st.DataObject
) -> None:
    before = made(rows).fingerprint()
    random.shuffle(rows)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert made(rows).fingerprint() == before


@given(ROWS)
def test_each_pair_is_kept_once_with_its_value(rows: list[tuple[str, str, int]]) -> None:
    wanted: dict[tuple[str, str], float] = {}
    for user, item, value in rows:
        wanted[user, item] = max(value, wanted.get((user, item), 0))
    assert pairs(made(rows)) == wanted


@given(ROWS, st.integers(1, 3), st.integers(1, 3))
def test_the_core_is_what_is_left_when_nothing_more_can_go(
    rows: list[tuple[str, str, int]], users: int, items: int
) -> None:
    left = set(pairs(made(rows)))
    while True:
        kept = {
            (u, i)
            for u, i in left
            if sum(one[0] == u for one in left) >= users
            and sum(one[1] == i for one in left) >= items
        }
        if kept == left:
            break
        left = kept
    core = made(rows).core(users, items)
    assert set(pairs(core)) == left
    assert {len(core.users), len(core.items)} == {
        len({u for u, _ in left}),
        len({i for _, i in left}),
    }


@pytest.mark.parametrize(
    ("duplicates", "value", "time"),
    [("last", 2, 9), ("first", 5, 1), ("max", 5, 9), ("sum", 11, 9)],
)
def test_duplicates_are_joined_as_said(duplicates: str, value: float, time: int) -> None:
    data = Interactions.of(
        ["a", "a", "a"],
        ["x", "x", "x"],
        [4, 2, 5],
        [3, 9, 1],
        duplicates=duplicates,  # type: ignore[arg-type]  # one of the literals
    )
    assert (data.values.tolist(), data.times is not None and data.times.tolist()) == (
        [value],
        [time],
    )


def test_duplicates_can_be_refused_by_name() -> None:
    with pytest.raises(InputError, match="user 'a' and item 'x' come more than once"):
        Interactions.of(["a", "a"], ["x", "x"], duplicates="error")


def test_a_threshold_leaves_no_user_or_item_behind() -> None:
    data = Interactions.of(["a", "a", "b"], ["x", "y", "z"], [5, 3, 2]).at_least(4)
    assert (list(data.users), list(data.items), data.values.tolist()) == (["a"], ["x"], [5])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((["a", ""], ["x", "y"]), "user id of row 1 is ''"),
        ((["a", "b"], ["x", None]), "item id of row 1 is None"),
        ((["a"], ["x", "y"]), "1 users and 2 items"),
        ((["a", "b"], ["x", "y"], [1, float("nan")]), "values hold nan in row 1"),
        ((["a", "b"], ["x", "y"], [1]), "2 rows and 1 values"),
        ((["a"], ["x"], ["much"]), "values must be numbers"),
        ((["a"], ["x"], None, [float("inf")]), "times hold inf"),
    ],
)
def test_bad_columns_are_refused_with_what_is_wrong(columns: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Interactions.of(*columns)


def test_frozen_arrays_cannot_be_written(world: Interactions) -> None:
    with pytest.raises(ValueError, match="read-only"):
        world.values[0] = 9


def test_a_fingerprint_knows_every_column(world: Interactions) -> None:
    other = Interactions(
        world.users, world.items, world.user, world.item, world.values + 1, world.times
    )
    untimed = Interactions(world.users, world.items, world.user, world.item, world.values)
    prints = {one.fingerprint() for one in (world, other, untimed, world.take(world.user > 0))}
    assert len(prints) == 4


def test_histories_hold_each_item_once_and_give_their_lists_back() -> None:
    items = IdMap(["x", "y", "z"], "item")
    histories = Histories.of([["z", "x", "z"], []], items)
    assert histories.matrix.toarray().tolist() == [[1, 0, 1], [0, 0, 0]]
    assert histories.lists() == [["x", "z"], []]
    assert histories.take(np.array([1, 0])).lists() == [[], ["x", "z"]]


def test_unknown_items_are_an_error_or_dropped_on_demand() -> None:
    items = IdMap(["x"], "item")
    with pytest.raises(InputError, match=r"unknown item ids: \['q'\]; 1 are known, such as"):
        Histories.of([["x", "q"]], items)
    assert Histories.of([["x", "q"], ["q"]], items, unknown="drop").lists() == [["x"], []]


def test_ids_are_in_natural_order_whatever_came_first() -> None:
    assert list(IdMap(["10", "9", "1"])) == ["1", "9", "10"]
    assert list(IdMap(["b", "10", "9"])) == ["10", "9", "b"]
    with pytest.raises(InputError, match=r"come twice: \['x'\]"):
        IdMap.ordered(["x", "y", "x"], "item")


def test_a_graph_knows_which_entity_an_item_is() -> None:
    graph = Graph.of(
        [("e1", "by", "e9"), ("e1", "by", "e9"), ("e2", "in", "e1")], {"x": "e2", "y": "e7"}
    )
    assert len(graph) == 2
    entities = [graph.entities.ids[at] if at >= 0 else None for at in graph.entity_of(IdMap("xyz"))]
    assert entities == ["e2", "e7", None]
    with pytest.raises(InputError, match="'e1' is linked from more than one item"):
        Graph.of([("e1", "by", "e2")], {"x": "e1", "y": "e1"})


def test_a_graph_without_links_links_nothing() -> None:
    assert Graph.of([("e1", "by", "e2")], {}).entity_of(IdMap("xy")).tolist() == [-1, -1]


def test_genres_are_equal_shares_of_an_item() -> None:
    table = ItemTable(IdMap("xyz"), ("X", "", "Z"), (("a", "b"), (), ("b",)), (1999, 0, 0))
    names, shares = table.genre_shares(IdMap("xyzq"))
    assert names == ["a", "b"]
    assert shares.toarray().tolist() == [[0, 0], [0.5, 0.5], [0, 0], [0, 1]]
    assert [table.title(one) for one in "xyq"] == ["X", "y", "q"]

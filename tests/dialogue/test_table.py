"""Tables of attributes from pairs, frames, files, item tables and Last.FM*."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from persona_agent.errors import InputError
from persona_agent.recommend.dialogue import lastfm_star
from persona_agent.recommend.dialogue.table import (
    AttributeTable,
    attributes_of,
    from_frame,
    read_csv,
)
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable

FOLDER = Path(os.environ.get("PERSONA_AGENT_DATA") or "nowhere") / "crs-lastfm-star"

FILMS = pd.DataFrame(
    {
        "item": ["2", "10", "10", "7"],
        "title": ["Alien", "Heat", "Heat", "Untagged"],
        "genre": ["Horror|Sci-Fi", "Crime", "Drama| Crime", None],
        "country": ["GB", "US", "US", ""],
    }
)


def test_pairs_become_incidence_both_ways() -> None:
    table = AttributeTable.of(
        [("b", "x"), ("a", "y"), ("b", "y"), ("b", "x")],
        kinds={"x": ("one", "two")},
        item_names={"a": "Ann"},
        items=["c"],
    )
    assert list(table.items) == ["a", "b", "c"]
    assert table.item_names == ("Ann", "b", "c")
    assert [table.attributes_of(one).tolist() for one in range(3)] == [[1], [0, 1], []]
    assert [table.items_with(one).tolist() for one in range(2)] == [[1], [0, 1]]
    assert list(table.kinds) == ["attribute", "one", "two"]
    assert [table.of_kind(one).tolist() for one in table.kinds] == [[1], [0], [0]]


def test_rows_and_cells_of_a_frame_join(tmp_path: Path) -> None:
    table = from_frame(FILMS, name="title", kinds=["genre", "country"])
    assert list(table.items) == ["2", "7", "10"]
    assert table.item_names == ("Alien", "Untagged", "Heat")
    of_heat = [table.attributes.ids[at] for at in table.attributes_of(2)]
    assert of_heat == ["country:US", "genre:Crime", "genre:Drama"]
    assert table.attributes_of(1).tolist() == []
    assert table.attribute_names[int(table.attributes.find(["genre:Drama"])[0])] == "Drama"
    FILMS.to_csv(tmp_path / "films.csv", index=False)
    again = read_csv(tmp_path / "films.csv", name="title", kinds=["genre", "country"])
    assert again.attributes == table.attributes
    assert (again.has != table.has).nnz == 0
    assert again.item_names == table.item_names


def test_an_item_table_gives_genres_and_decades() -> None:
    films = ItemTable(IdMap(["1", "2"]), ("Heat", ""), (("Crime",), ()), (1995, 0))
    table = attributes_of(films)
    assert list(table.attributes) == ["decade:1990", "genre:Crime"]
    assert table.attribute_names == ("1990s", "Crime")
    assert table.item_names == ("Heat", "2")
    assert list(attributes_of(films, decades=False).attributes) == ["genre:Crime"]


def test_on_follows_the_items_of_a_recommender() -> None:
    table = from_frame(FILMS, name="title", kinds=["genre"])
    moved = table.on(IdMap.ordered(["10", "99", "7"]))
    assert moved.item_names == ("Heat", "99", "Untagged")
    assert list(moved.attributes) == ["genre:Crime", "genre:Drama"]
    assert [moved.attributes_of(one).tolist() for one in range(3)] == [[0, 1], [], []]
    assert moved.had_by.toarray().tolist() == moved.has.toarray().T.tolist()
    assert moved.of_kind("genre").tolist() == [0, 1]


def test_common_leaves_out_what_few_have() -> None:
    table = AttributeTable.of([("a", "x"), ("b", "x"), ("b", "y")]).common(2)
    assert list(table.attributes) == ["x"]
    assert table.attributes_of(1).tolist() == [0]


def test_what_is_not_a_table_is_refused() -> None:
    with pytest.raises(InputError, match=r"no column \['maker'\]; there are"):
        from_frame(FILMS, kinds=["maker"])
    with pytest.raises(InputError, match="'item' has no id in row 1"):
        from_frame(FILMS.assign(item=["1", None, "2", "3"]), kinds=["genre"])
    with pytest.raises(InputError, match="attribute 'x' has no kind"):
        AttributeTable.of([("a", "x")], kinds={"x": ()})
    with pytest.raises(InputError, match="not a file of Last"):
        lastfm_star.read("nowhere")


@pytest.mark.real("data")
@pytest.mark.skipif(not FOLDER.is_dir(), reason="PERSONA_AGENT_DATA names no folder of data")
def test_last_fm_star_is_whole_and_named() -> None:
    found = lastfm_star.read(FOLDER)
    table = found.table
    assert (len(table), len(table.attributes), table.has.nnz) == (7_432, 8_438, 94_446)
    parts = (found.train, found.valid, found.test)
    assert [len(one) for one in parts] == [52_910, 11_891, 11_892]
    assert {len(one.users) for one in parts} == {1_801}
    assert all(one.items is table.items for one in parts)
    assert len(table.kinds) in (33, 34)
    artist = table.item_names.index("The Early November")
    assert "emo" in {table.attribute_names[at] for at in table.attributes_of(artist)}

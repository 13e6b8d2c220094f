"""Files and DataFrames in; clear refusals of what is not data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from persona_agent.errors import InputError
from persona_agent.recommend import readers

FRAME = pd.DataFrame(
    {"user": [7, 7, 10], "item": ["x", "y", "x"], "stars": [5, 3, 4], "at": [30, 10, 20]}
)


def test_a_frame_is_read_by_its_columns() -> None:
    data = readers.from_frame(FRAME, value="stars", time="at")
    assert (list(data.users), list(data.items)) == (["7", "10"], ["x", "y"])
    assert data.values.tolist() == [5, 3, 4]
    assert data.times is not None
    assert data.times.tolist() == [30, 10, 20]
    assert readers.from_frame(FRAME).values.tolist() == [1, 1, 1]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_datetimes_become_seconds(zone: str | None) -> None:
    start = pd.Timestamp(0, tz="UTC").tz_convert(zone)
    at = start + pd.to_timedelta(pd.Series([30, 10, 20]), unit="s")
    data = readers.from_frame(FRAME.assign(at=at), time="at")
    assert data.times is not None
    assert data.times.tolist() == [30, 10, 20]


def test_csv_and_parquet_say_the_same_as_the_frame(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "data.csv", index=False)
    FRAME.to_parquet(tmp_path / "data.parquet")
    wanted = readers.from_frame(FRAME, value="stars", time="at").fingerprint()
    by_text = readers.read_csv(tmp_path / "data.csv", value="stars", time="at")
    assert by_text.fingerprint() == wanted
    stored = readers.read_parquet(tmp_path / "data.parquet", value="stars", time="at")
    assert stored.fingerprint() == wanted


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop(columns="item"), r"no column \['item'\]; there are \['user', 'stars', 'at'\]"),
        (pd.concat([FRAME, FRAME[["user"]]], axis=1), r"columns \['user'\] come more than once"),
        (FRAME.assign(user=[7, None, 10]), "column 'user' has no id in row 1"),
        (FRAME.assign(item=["x", "", "y"]), "column 'item' has no id in row 1"),
        (FRAME.assign(user=[7.5, 8.0, 9.0]), "column 'user' holds 7.5; ids are text or whole"),
        (FRAME.assign(stars=[1, None, 2]), "column 'stars' holds NaN in row 1"),
        (FRAME.assign(stars=["1", "good", "2"]), "column 'stars' must hold numbers"),
        (FRAME.assign(at=pd.to_datetime(["2020", None, "2021"])), "column 'at' has no time"),
    ],
)
def test_a_bad_frame_is_refused_with_what_is_wrong(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        readers.from_frame(frame, value="stars", time="at")


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_atomic_files_are_read_whole(tmp_path: Path) -> None:
    inter = write(
        tmp_path,
        "x.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "1\t10\t4.0\t88",
        "1\t9\t2.5\t89",
    )
    data = readers.read_atomic(inter)
    assert (list(data.items), data.values.tolist()) == (["9", "10"], [2.5, 4])
    bare = write(tmp_path, "y.inter", "user_id:token\titem_id:token", "1\t10")
    assert readers.read_atomic(bare).times is None
    item = write(
        tmp_path,
        "x.item",
        "item_id:token\ttitle:token_seq\tgenres:token_seq\tyear:token",
        '10\tThe "Best" One\tDrama War\t1999',
        "9\tN/A\t\tunknown",
    )
    table = readers.read_atomic_items(item)
    assert table.titles == ("N/A", 'The "Best" One')
    assert (table.genres, table.years) == (((), ("Drama", "War")), (0, 1999))
    user = write(tmp_path, "x.user", "user_id:token\tage:token", "1\t24")
    assert readers.read_atomic_users(user) == {"1": {"age": "24"}}
    facts = write(
        tmp_path, "x.kg", "head_id:token\trelation_id:token\ttail_id:token", "m.1\tby\tm.2"
    )
    link = write(tmp_path, "x.link", "item_id:token\tentity_id:token", "10\tm.1", "9\tm.3")
    graph = readers.read_atomic_graph(facts, link)
    assert (len(graph), len(graph.entities), list(graph.linked)) == (1, 3, ["9", "10"])


def test_triples_and_links_have_no_header(tmp_path: Path) -> None:
    links = readers.read_links(write(tmp_path, "links.txt", "10\t0", "9\t1"))
    graph = readers.read_triples(write(tmp_path, "kg.txt", "0\tby\t2", "1\tby\t2"), links)
    assert (len(graph), len(graph.entities), len(graph.relations)) == (2, 3, 1)
    with pytest.raises(InputError, match="item '10' is linked to '0' and to '1'"):
        readers.read_links(write(tmp_path, "twice.txt", "10\t0", "10\t1"))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv cannot be read"):
        readers.read_csv(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        readers.read_parquet(write(tmp_path, "text.parquet", "not parquet"))
    with pytest.raises(InputError, match="cannot be read"):
        readers.read_links(write(tmp_path, "ragged.txt", "1\t2", "1\t2\t3"))
    with pytest.raises(InputError, match="has 2 columns; 3 are due"):
        readers.read_triples(write(tmp_path, "kg.txt", "1\t2"), {})
    with pytest.raises(InputError, match="2 rows for 1 items"):
        readers.read_atomic_items(
            write(tmp_path, "a.item", "item_id\ttitle\tgenres\tyear", "1\ta\tb\t1", "1\tc\td\t2")
        )

"""The real data sets: their counts, their titles, and how their graphs join."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from persona_agent.errors import InputError
from persona_agent.eval.datasets import DataSet, open_dataset

FOLDER = Path(os.environ.get("PERSONA_AGENT_DATA") or "nowhere")
needs_folder = pytest.mark.skipif(
    not (FOLDER / "kg-mkr-movie").is_dir(), reason="PERSONA_AGENT_DATA names no folder of data"
)


def sizes(data: DataSet) -> tuple[int, int, int, int, int]:
    """Return interactions, users, items, triples, and items that are linked to an entity."""
    inter = data.interactions
    linked = (data.graph.entity_of(inter.items) >= 0).sum()
    return len(inter), len(inter.users), len(inter.items), len(data.graph), int(linked)


@pytest.mark.real("data")
def test_movielens_100k_comes_with_its_titles() -> None:
    data = open_dataset("ml-100k")
    assert sizes(data) == (100_000, 943, 1_682, 0, 0)
    assert data.items.title("50") == "Star Wars"
    assert data.items.years[49] == 1977
    assert "Sci-Fi" in data.items.genres[49]
    assert (len(data.liked()), len(data.liked().users), len(data.liked().items)) == (
        55_375,
        942,
        1_447,
    )
    core = data.liked().core(5, 5)
    assert (len(core), len(core.users), len(core.items)) == (54_413, 938, 1_008)


@needs_folder
@pytest.mark.real("data")
def test_the_graph_of_movielens_100k_is_of_its_own_films() -> None:
    data = open_dataset("ml-100k", FOLDER)
    assert sizes(data) == (100_000, 943, 1_682, 91_631, 1_164)
    assert _share_of_musicals(data, "m.04t36") > 0.5  # Freebase's musical
    assert _share_of_musicals(data, "m.02822") < 0.1  # its drama


def _share_of_musicals(data: DataSet, entity: str) -> float:
    """Return how many of the films of an entity are musicals by MovieLens-100K itself."""
    graph = data.graph
    (place,) = graph.entities.positions([entity])
    near = set(graph.heads[graph.tails == place]) | set(graph.tails[graph.heads == place])
    items = [item for item, at in zip(graph.linked.ids, graph.linked_to, strict=True) if at in near]
    rows = data.items.ids.positions(items)
    return sum("Musical" in data.items.genres[row] for row in rows) / len(rows)


@needs_folder
def test_movielens_latest_small_joins_its_graph() -> None:
    data = open_dataset("ml-latest-small", FOLDER)
    assert sizes(data) == (100_836, 610, 9_724, 20_782, 1_853)
    assert data.items.title("1") == "Toy Story"
    assert data.items.years[0] == 1995
    assert data.items.genres[0][0] == "Adventure"
    joined = data.graph.entity_of(data.interactions.items)[data.interactions.item] >= 0
    assert joined.sum() == 38_678


@needs_folder
def test_lastfm_joins_its_graph_and_names() -> None:
    data = open_dataset("lastfm", FOLDER)
    assert sizes(data) == (92_834, 1_892, 17_632, 15_518, 3_846)
    joined = data.graph.entity_of(data.interactions.items)[data.interactions.item] >= 0
    assert joined.sum() == 21_173
    assert data.items.title("1") == "MALICE MIZER"
    assert data.liked().values.min() > 0


def test_a_data_set_that_is_not_there_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="no data set 'netflix'; there are ml-100k"):
        open_dataset("netflix")
    with pytest.raises(InputError, match="set PERSONA_AGENT_DATA"):
        open_dataset("lastfm")

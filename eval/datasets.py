"""The data sets of the recommender studies: interactions, graph and titles of each.

None may be redistributed, so each is read from where it lies: MovieLens-100K from an installed
package, the others from a folder of data. Values are as in the source; binarise with `at_least`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from persona_agent.errors import InputError
from persona_agent.eval import movielens
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.readers import (
    read_atomic,
    read_atomic_graph,
    read_columns,
    read_csv,
    read_links,
    read_triples,
)

BRACKETS = re.compile(r"\([^)]*\)")
NO_GENRES = "(no genres listed)"


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What a study needs to know: `positive` is the value from which a choice counts as liked."""

    name: str
    interactions: Interactions
    graph: Graph
    items: ItemTable
    positive: float

    def liked(self) -> Interactions:
        """Return the interactions that count as liked, and only their users and items."""
        return self.interactions.at_least(self.positive)


def movielens_100k(data: Path | None = None, *, folder: Path | None = None) -> DataSet:
    """Return MovieLens-100K (1998) and the Freebase graph that RecBole ships with it.

    `folder` holds ml-100k.inter, .kg and .link; by default that of the installed package.

    The graph's links number films as MovieLens-1M and its successors do, not as MovieLens-100K
    does: read as they stand, 95% of them name another film. So they are led by title and year
    through the list of films of MovieLens latest-small, in the folder of all data, `data`. Without
    that folder the graph is empty.
    """
    folder = folder or movielens.data_folder()
    films = movielens.load(folder).films
    ids = IdMap(films, "item")
    table = ItemTable(
        ids,
        tuple(films[one].title for one in ids),
        tuple(films[one].genres for one in ids),
        tuple(int(films[one].year or 0) for one in ids),
    )
    if data is None:
        graph = Graph.of((), {})
    else:
        named = _films(data / "movielens-latest-small" / "movies.csv")
        graph = read_atomic_graph(folder / "ml-100k.kg", folder / "ml-100k.link")
        graph = graph.relinked(_same_films(named, table))
    return DataSet("ml-100k", read_atomic(folder / "ml-100k.inter"), graph, table, 4)


def movielens_small(data: Path) -> DataSet:
    """Return MovieLens latest-small (2018) and the MKR graph, from the folder of all data."""
    folder = data / "movielens-latest-small"
    interactions = read_csv(
        folder / "ratings.csv", user="userId", item="movieId", value="rating", time="timestamp"
    )
    return DataSet(
        "ml-latest-small",
        interactions,
        _graph(data / "kg-mkr-movie"),
        _films(folder / "movies.csv"),
        4,
    )


def lastfm(data: Path) -> DataSet:
    """Return HetRec 2011 Last.FM and the KGCN graph, from the folder of all data.

    Values are play counts, and every artist played counts as liked; there are no times and no
    genres. This is not the LFM-1b sample of the KGAT papers.
    """
    folder = data / "kg-lastfm-kgcn"
    interactions = read_csv(
        folder / "user_artists.dat",
        separator="\t",
        user="userID",
        item="artistID",
        value="weight",
    )
    artists = read_columns(data / "hetrec-lastfm" / "artists.dat", ("id", "name"), separator="\t")
    names = dict(zip(*artists, strict=True))
    ids = IdMap(names, "item")
    table = ItemTable(ids, tuple(names[one] for one in ids), ((),) * len(ids), (0,) * len(ids))
    return DataSet("lastfm", interactions, _graph(folder), table, 0)


FROM_FOLDER: dict[str, Callable[[Path], DataSet]] = {
    "ml-latest-small": movielens_small,
    "lastfm": lastfm,
}
NAMES = ("ml-100k", *FROM_FOLDER)


def open_dataset(name: str, data: Path | None = None) -> DataSet:
    """Return a data set of `NAMES`; all need the folder of all data, ml-100k for its graph."""
    if name == "ml-100k":
        return movielens_100k(data)
    if name not in FROM_FOLDER:
        raise ValueError(f"there is no data set {name!r}; there are {', '.join(NAMES)}")
    if data is None:
        raise InputError(f"data set {name!r} is read from a folder; set PERSONA_AGENT_DATA to it")
    return FROM_FOLDER[name](data)


def _graph(folder: Path) -> Graph:
    return read_triples(folder / "kg.txt", read_links(folder / "item_index2entity_id.txt"))


def _films(path: Path) -> ItemTable:
    ids, titles, genres = read_columns(path, ("movieId", "title", "genres"))
    found = {}
    for one, title, kinds in zip(ids, titles, genres, strict=True):
        name, year = movielens.parted(title)
        found[one] = (name, () if kinds == NO_GENRES else tuple(kinds.split("|")), int(year or 0))
    known = IdMap(found, "item")
    rows = [found[one] for one in known]
    return ItemTable(
        known,
        tuple(title for title, _, _ in rows),
        tuple(kinds for _, kinds, _ in rows),
        tuple(year for _, _, year in rows),
    )


def _same_films(theirs: ItemTable, ours: ItemTable) -> dict[str, str]:
    """Return their id -> our id of every film that title and year name once in both tables."""
    known, named = _by_name(ours), _by_name(theirs)
    return {named[name]: known[name] for name in named.keys() & known.keys()}


def _by_name(table: ItemTable) -> dict[tuple[str, int], str]:
    """Return the id of each (title, year) that one film has, titles without what varies."""
    found: dict[tuple[str, int], list[str]] = {}
    for one, title, year in zip(table.ids, table.titles, table.years, strict=True):
        found.setdefault((bare_title(title), year), []).append(one)
    return {name: ids[0] for name, ids in found.items() if len(ids) == 1 and name[0]}


def bare_title(title: str) -> str:
    """Return a title without brackets, accents, case, spaces and marks.

    >>> bare_title("Amélie (Le Fabuleux destin)"), bare_title("The X-Files: Fight!")
    ('amelie', 'thexfilesfight')
    """
    plain = unicodedata.normalize("NFKD", BRACKETS.sub("", title)).casefold()
    return "".join(one for one in plain if one.isalnum())

"""The domains that the chat command knows by name: films of MovieLens-100K, artists of Last.FM*.

The data may not be redistributed; each is read from where it lies, see `eval.datasets`.
"""

from __future__ import annotations

from pathlib import Path

from persona_agent.chat.domain import Domain
from persona_agent.chat.tables import from_csv
from persona_agent.errors import InputError
from persona_agent.eval.datasets import DataSet, movielens_100k
from persona_agent.recommend.dialogue.lastfm_star import read
from persona_agent.recommend.dialogue.table import attributes_of
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.knn import ItemKNN

NAMES = ("ml-100k", "lastfm")
LASTFM_STAR = "crs-lastfm-star"
LEAST_ARTISTS = 20  # of a tag that is asked about
# How people speak of genres whose names in the data are not how people speak.
FILM_ALIASES = {
    "genre:Children's": ("for children", "for kids", "family"),
    "genre:Comedy": ("funny",),
    "genre:Film-Noir": ("noir",),
    "genre:Horror": ("scary",),
    "genre:Romance": ("romantic", "love story"),
    "genre:Sci-Fi": ("scifi", "science fiction"),
    "genre:Animation": ("animated", "cartoon"),
}


def open_domain(name: str, data: Path | None = None) -> Domain:
    """Return the domain of one of `NAMES`, or of a CSV file.

    `data` is the folder of all data sets, which lastfm needs. Raises InputError or ValueError.
    """
    if name == "ml-100k":
        return films()
    if name == "lastfm":
        if data is None:
            raise InputError("lastfm is read from a folder of data; set PERSONA_AGENT_DATA to it")
        return artists(data)
    path = Path(name)
    if path.suffix != ".csv" and not path.is_file():
        known = ", ".join(NAMES)
        raise ValueError(f"there is no domain {name!r}; there are {known}, and paths of CSV files")
    return from_csv(path)


def films(folder: Path | None = None) -> Domain:
    """Return the films of MovieLens-100K by genre and decade."""
    return film_domain(movielens_100k(folder))


def film_domain(data: DataSet) -> Domain:
    """Return the films of a data set of MovieLens, recommended by EASE of its likings."""
    return Domain.of(
        data.name,
        attributes_of(data.items),
        noun="film",
        model=EASE(l2=500.0).fit(data.liked()),
        years=dict(zip(data.items.ids, data.items.years, strict=True)),
        asks={"genre": "mood", "decade": "decade"},
        aliases=FILM_ALIASES,
    )


def artists(data: Path) -> Domain:
    """Return the artists of Last.FM* by the tags of 20 or more, recommended by item-kNN."""
    found = read(data / LASTFM_STAR)
    table = found.table.common(LEAST_ARTISTS)
    return Domain.of(
        "lastfm",
        table,
        noun="artist",
        model=ItemKNN().fit(found.train),
        asks=dict.fromkeys(table.kinds, "taste"),
    )

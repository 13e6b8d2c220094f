"""MovieLens-100K as interactions, read from the data that an installed package carries.

The data may not be redistributed (F. M. Harper and J. A. Konstan 2015, GroupLens), so it is read
from the `recbole` wheel, installed without its dependencies, and nothing of it is kept here.
"""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from persona_agent.errors import InputError
from persona_agent.task import Task
from persona_agent.types import Interaction, Record, Scope

INSTALL = "pip install --no-deps recbole==1.2.1"
RATING = Task(
    "rating",
    query_label="Film",
    outcome_label="Rating",
    options=("1", "2", "3", "4", "5"),
    numeric=True,
    item_name="film",
)
TITLE = re.compile(r"^(?P<title>.*\S)\s*\((?P<year>\d{4})\)\s*$")
ARTICLE = re.compile(r"^(?P<rest>.*), (?P<article>The|A|An|La|Le|Les|Il|Das|Der|Die|El|L')$")


@dataclass(frozen=True, slots=True)
class Film(Record):
    """A film as people speak of it."""

    id: str
    title: str
    year: str
    genres: tuple[str, ...]

    @property
    def name(self) -> str:
        """Title and year."""
        return f"{self.title} ({self.year})" if self.year else self.title

    @property
    def text(self) -> str:
        """Title, year and genres, as a prompt shows them."""
        return ", ".join([self.name, *self.genres])


@dataclass(frozen=True, slots=True)
class Rating(Record):
    """One user's rating of one film at one time (seconds since 1970)."""

    user: str
    film: str
    value: int
    when: int


@dataclass(frozen=True, slots=True)
class MovieLens(Record):
    """All films, and each user's ratings in time order (ties by film id)."""

    films: Mapping[str, Film]
    ratings: Mapping[str, tuple[Rating, ...]]


def data_folder() -> Path:
    """Return the folder that holds ml-100k.inter; raises InputError saying how to get it."""
    spec = importlib.util.find_spec("recbole")
    for root in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(root) / "dataset_example" / "ml-100k"
        if (folder / "ml-100k.inter").is_file():
            return folder
    raise InputError(f"MovieLens-100K is not installed; it comes with: {INSTALL}")


def load(folder: Path | None = None) -> MovieLens:
    """Return MovieLens-100K, from `folder` or the installed package."""
    folder = folder or data_folder()
    films = {
        row["item_id"]: Film(
            row["item_id"],
            spoken(row["movie_title"]),
            row["release_year"] if row["release_year"].isdigit() else "",
            tuple(genre for genre in row["class"].split() if genre != "unknown"),
        )
        for row in _rows(folder / "ml-100k.item")
    }
    by_user: dict[str, list[Rating]] = {}
    for row in _rows(folder / "ml-100k.inter"):
        rating = Rating(
            row["user_id"], row["item_id"], int(float(row["rating"])), int(float(row["timestamp"]))
        )
        by_user.setdefault(rating.user, []).append(rating)
    return MovieLens(
        films,
        {
            user: tuple(sorted(by_user[user], key=lambda one: (one.when, int(one.film))))
            for user in sorted(by_user, key=int)
        },
    )


def interaction(data: MovieLens, rating: Rating, tenant: str = "default") -> Interaction:
    """Return a rating as an interaction: the film is the query, the stars are the outcome."""
    film = data.films[rating.film]
    return Interaction(
        Scope(f"ml-{rating.user}", tenant),
        datetime.fromtimestamp(rating.when, UTC),
        film.text,
        outcome=str(rating.value),
        item=film.id,
        metadata={
            "genres": list(film.genres),
            "query_label": RATING.query_label,
            "outcome_label": RATING.outcome_label,
            "item_name": RATING.item_name,
        },
        id=f"ml-{rating.user}-{rating.film}",
    )


def _rows(path: Path) -> Iterable[dict[str, str]]:
    """Yield the rows of a RecBole atomic file by column name, without the `:type` suffixes."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            names = [name.split(":")[0] for name in next(reader)]
            for number, row in enumerate(reader, start=2):
                if len(row) != len(names):
                    raise InputError(
                        f"{path.name} line {number} has {len(row)} columns; {len(names)} are due"
                    )
                yield dict(zip(names, row, strict=True))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def spoken(title: str) -> str:
    """Return a title as it is spoken.

    >>> spoken("Usual Suspects, The")
    'The Usual Suspects'
    """
    match = ARTICLE.match(title.strip())
    return f"{match['article']} {match['rest']}" if match else title.strip()


def parted(title: str) -> tuple[str, str]:
    """Return a title that ends with its year as spoken title and year; "" where there is none.

    >>> parted("Usual Suspects, The (1995)")
    ('The Usual Suspects', '1995')
    """
    match = TITLE.match(title)
    return (spoken(match["title"]), match["year"]) if match else (spoken(title), "")

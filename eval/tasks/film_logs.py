"""What people did with films: MovieLens-100K and MovieLens latest-small, as one kind of log.

F. M. Harper and J. A. Konstan (2015). Nothing of either may be kept here: the first is read from
an installed package, the second from the folder of all data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from persona_agent.errors import InputError
from persona_agent.eval import movielens
from persona_agent.eval.movielens import Film
from persona_agent.eval.tasks.tables import csv_rows
from persona_agent.types import Interaction, Json, Record, Scope

SMALL = "movielens-latest-small"
NO_GENRES = "(no genres listed)"
STARS = tuple(f"{half / 2:.1f}" for half in range(1, 11))  # 0.5 to 5.0


@dataclass(frozen=True, slots=True)
class Event(Record):
    """What one user did with one film: a rating or a tag, at a moment."""

    user: str
    film: str
    outcome: str
    when: datetime


@dataclass(frozen=True, slots=True)
class FilmLog(Record):
    """Films by id, and each user's events in time order (ties by film, then outcome)."""

    films: Mapping[str, Film]
    events: Mapping[str, tuple[Event, ...]]

    def genres(self) -> tuple[str, ...]:
        """Return the genres that films have, in the order of the alphabet."""
        return tuple(sorted({genre for film in self.films.values() for genre in film.genres}))


def ml_100k(data: movielens.MovieLens | None = None) -> FilmLog:
    """Return the ratings of MovieLens-100K, users named ml-ID; without `data`, the installed."""
    found = movielens.load() if data is None else data
    return FilmLog(
        found.films,
        {
            f"ml-{user}": tuple(
                Event(f"ml-{user}", one.film, str(one.value), datetime.fromtimestamp(one.when, UTC))
                for one in ratings
            )
            for user, ratings in found.ratings.items()
        },
    )


def ml_small_ratings(data: Path) -> FilmLog:
    """Return the ratings of latest-small, from 0.5 to 5.0, users named mls-ID."""
    return _small(data, "ratings.csv", lambda row: f"{float(row['rating']):.1f}")


def ml_small_tags(data: Path) -> FilmLog:
    """Return the tags of latest-small in lower case, users named mls-ID; repeats are left out."""
    return _small(data, "tags.csv", lambda row: " ".join(row["tag"].casefold().split()))


def interaction(
    log: FilmLog,
    event: Event,
    query: str,
    outcome: str,
    *,
    id: str,  # noqa: A002  as the interaction calls it
    options: Sequence[str] = (),
    genres: bool = True,
) -> Interaction:
    """Return an event as an interaction about its film; genres are known unless they are asked."""
    film = log.films[event.film]
    known: dict[str, Json] = {"genres": list(film.genres)} if genres else {}
    return Interaction(
        Scope(event.user),
        event.when,
        query,
        outcome=outcome,
        item=film.id,
        options=tuple(options),
        metadata=known,
        id=id,
    )


def _small(data: Path, name: str, outcome: Callable[[Mapping[str, str]], str]) -> FilmLog:
    folder = data / SMALL
    films = {
        row["movieId"]: _film(row)
        for _, row in csv_rows(folder / "movies.csv", ("movieId", "title", "genres"))
    }
    by_user: dict[str, set[tuple[int, int, str]]] = {}
    columns = ("userId", "movieId", "timestamp")
    for line, row in csv_rows(folder / name, columns):
        try:
            place = (int(row["timestamp"]), int(row["movieId"]), outcome(row))
        except ValueError as error:
            raise InputError(f"{name} line {line}: {error}") from error
        if row["movieId"] not in films:
            raise InputError(f"{name} line {line}: no film {row['movieId']!r} in movies.csv")
        by_user.setdefault(row["userId"], set()).add(place)
    return FilmLog(
        films,
        {
            f"mls-{user}": tuple(
                Event(f"mls-{user}", str(film), said, datetime.fromtimestamp(when, UTC))
                for when, film, said in sorted(by_user[user])
            )
            for user in sorted(by_user, key=int)
        },
    )


def _film(row: Mapping[str, str]) -> Film:
    title, year = movielens.parted(row["title"])
    kinds = row["genres"]
    return Film(row["movieId"], title, year, () if kinds == NO_GENRES else tuple(kinds.split("|")))

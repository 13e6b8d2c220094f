"""A recommender's items by their titles: what models read and write instead of ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from persona_agent.prompts import as_data
from persona_agent.recommend.data import BoolArray
from persona_agent.recommend.ids import IdMap, IntArray
from persona_agent.recommend.item_table import ItemTable

MAX_TITLE_CHARS = 80
MOST_NEAR = 3
YEAR = re.compile(r"\(?\b(\d{4})\)?\s*$")
GAP = re.compile(r"[\W_]+")
ARTICLES = ("the ", "a ", "an ")


class Wish(BaseModel):
    """What items must be, or must not be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    genres: tuple[str, ...] = ()
    from_year: int | None = None
    to_year: int | None = None
    title: str = ""


class Catalogue:
    """The items that a recommender knows, by position, with what they are called.

    An item without a title is in no list that is shown, and nothing finds it.
    """

    def __init__(self, items: IdMap, table: ItemTable, *, noun: str = "item") -> None:
        """Name `items` by `table`; `noun` is what one is called, such as "film"."""
        self.items = items
        self.noun = noun
        rows = table.ids.find(items).tolist()
        self.titles = tuple(table.titles[row] if row >= 0 else "" for row in rows)
        self.years: IntArray = np.array([table.years[r] if r >= 0 else 0 for r in rows], np.int64)
        self.genres = tuple(table.genres[row] if row >= 0 else () for row in rows)
        self.titled: BoolArray = np.array([bool(title) for title in self.titles], bool)
        self._folded = [fold(title) for title in self.titles]
        self._by_title: dict[str, list[int]] = {}
        for position, title in enumerate(self._folded):
            if title:
                self._by_title.setdefault(title, []).append(position)
        self._with_genre: dict[str, BoolArray] = {}
        self.genre_names = sorted({genre for row in self.genres for genre in row})
        for name in self.genre_names:
            self._with_genre[fold(name)] = np.array([name in row for row in self.genres], bool)

    def __len__(self) -> int:
        return len(self.items)

    def name(self, position: int) -> str:
        """Return title and year, as harmless data."""
        title = as_data(self.titles[position], MAX_TITLE_CHARS)
        year = int(self.years[position])
        return f"{title} ({year})" if year else title

    def text(self, position: int) -> str:
        """Return title, year and genres, as harmless data."""
        return as_data(", ".join([self.name(position), *self.genres[position]]), 200)

    def has_genre(self, genre: str) -> BoolArray:
        """Return which items have a genre; raises ValueError naming the genres there are."""
        found = self._with_genre.get(fold(genre))
        if found is None:
            known = ", ".join(self.genre_names) or "none"
            raise ValueError(f"there is no genre {as_data(genre, 40)!r}; there are {known}")
        return found

    def named(self, text: str) -> int | None:
        """Return the position of the one item that `text` is the title of, None if it is not one.

        Case, punctuation and a leading article do not matter; a year tells namesakes apart.
        """
        found = self._matches(text)
        return found[0] if len(found) == 1 else None

    def find(self, text: str) -> int:
        """Return the position of the item of that title.

        Raises ValueError that names titles which are near, or the namesakes to choose from.
        """
        found = self._matches(text)
        if len(found) == 1:
            return found[0]
        shown = as_data(text, MAX_TITLE_CHARS)
        if found:
            raise ValueError(f"{shown!r} may be {self._listed(found)}; give the year, too")
        near = self._near(text)
        hint = f"; near it are {self._listed(near)}" if near else ""
        raise ValueError(f"no {self.noun} is called {shown!r}{hint}")

    def matching(self, must: Wish | None = None, must_not: Wish | None = None) -> BoolArray:
        """Return which items have a title, all that `must` asks for and nothing of `must_not`.

        An item of unknown year fails a year that it must have. Raises ValueError for a genre that
        no item has, naming those there are, and for years the wrong way round.
        """
        kept = self.titled.copy()
        for part in self._parts(must or Wish()):
            kept &= part
        for part in self._parts(must_not or Wish()):
            kept &= ~part
        return kept

    def _parts(self, wish: Wish) -> Iterable[BoolArray]:
        for genre in wish.genres:
            yield self.has_genre(genre)
        if wish.from_year is not None or wish.to_year is not None:
            low = 1 if wish.from_year is None else wish.from_year
            high = 9999 if wish.to_year is None else wish.to_year
            if low > high:
                raise ValueError(f"from_year is {low} and to_year {high}; from_year comes first")
            yield (self.years >= max(low, 1)) & (self.years <= high)
        if wish.title:
            words = fold(wish.title)
            yield np.array([words in title for title in self._folded], bool)

    def _matches(self, text: str) -> list[int]:
        exact = self._by_title.get(fold(text), [])
        if exact:
            return exact
        year = YEAR.search(text)
        if year is None:
            return []
        namesakes = self._by_title.get(fold(text[: year.start()]), [])
        return [one for one in namesakes if self.years[one] == int(year[1])]

    def _near(self, text: str) -> list[int]:
        """Return the items whose titles share most words with `text`, the shortest titles first."""
        year = YEAR.search(text)
        words = set(fold(text[: year.start()] if year else text).split())
        shared = [len(words.intersection(title.split())) for title in self._folded]
        order = sorted(
            (at for at, count in enumerate(shared) if count),
            key=lambda at: (-shared[at], len(self._folded[at]), at),
        )
        return order[:MOST_NEAR]

    def _listed(self, positions: Sequence[int]) -> str:
        return "; ".join(self.name(one) for one in positions[: 2 * MOST_NEAR])


def fold(text: str) -> str:
    """Return a title as it is compared: words in lower case, without a leading article.

    >>> fold("The Usual Suspects"), fold("Sci-Fi")
    ('usual suspects', 'sci fi')
    """
    plain = GAP.sub(" ", text.casefold()).strip()
    for article in ARTICLES:
        if plain.startswith(article):
            return plain.removeprefix(article)
    return plain

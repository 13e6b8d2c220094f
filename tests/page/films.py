"""What the people of these tests watched and what else there is: titles, years, genres, stars."""

from __future__ import annotations

from typing import NamedTuple

STARS = {"noir": 5, "documentary": 4, "comedy": 2, "musical": 1}  # of the one who is simulated


class Film(NamedTuple):
    """A film, by its id in the catalogue."""

    item: str
    title: str
    year: int
    genre: str

    @property
    def stars(self) -> int:
        """What the person gives it: by genre, one film in seven a star off."""
        given = STARS[self.genre]
        if int(self.item[1:]) % 7:
            return given
        return given - 1 if given > 2 else given + 1


_TITLES = {
    "noir": "The Third Man 1949, Double Indemnity 1944, Out of the Past 1947, Laura 1944, "
    "The Big Sleep 1946, Chinatown 1974, Touch of Evil 1958, Le Samouraï 1967, The Killers 1946, "
    "In a Lonely Place 1950, Night and the City 1950, Rififi 1955, "
    "Sunset Boulevard 1950, The Maltese Falcon 1941, Kiss Me Deadly 1955, Detour 1945",
    "documentary": "Man on Wire 2008, Grizzly Man 2005, Hoop Dreams 1994, The Thin Blue Line 1988, "
    "Nanook of the North 1922, Sans Soleil 1983, Honeyland 2019, Grey Gardens 1975, Senna 2010, "
    "The Act of Killing 2012, Leviathan 2012, Stop Making Sense 1984, "
    "Cave of Forgotten Dreams 2010, Shoah 1985, Paris Is Burning 1990, Salesman 1969",
    "comedy": "Some Like It Hot 1959, Playtime 1967, Airplane! 1980, Groundhog Day 1993, "
    "The General 1926, Duck Soup 1933, Paddington 2014, Amélie 2001, Sullivan's Travels 1941, "
    "His Girl Friday 1940, Being There 1979, Local Hero 1983, "
    "Modern Times 1936, Tampopo 1985, The Lady Eve 1941, Withnail and I 1987",
    "musical": "Cabaret 1972, West Side Story 1961, Oklahoma! 1955, Grease 1978, Chicago 2002, "
    "Mamma Mia! 2008, Hair 1979, Annie 1982, Evita 1996, Nine 2009, Once 2007, La La Land 2016, "
    "Top Hat 1935, Funny Girl 1968, Fame 1980, Rent 2005",
}
_BY_GENRE = [
    [(*title.rsplit(" ", 1), genre) for title in titles.split(", ")]
    for genre, titles in _TITLES.items()
]
# One of each genre in turn, so that every stretch of a history has all of them.
FILMS = [
    Film(f"f{place:02}", title, int(year), genre)
    for place, (title, year, genre) in enumerate(
        (film for some in zip(*_BY_GENRE, strict=True) for film in some), start=1
    )
]

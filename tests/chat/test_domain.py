"""Domains: of a recommender, and of anybody's table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_agent.chat.domain import Domain
from persona_agent.chat.tables import from_csv
from persona_agent.errors import InputError
from persona_agent.eval.chat.domains import open_domain
from persona_agent.recommend.dialogue.table import AttributeTable

PLACES = """name,cuisine,price,year,address
Aurora,Italian|Pizza,cheap,1991,Elm Street 1
Bistro,French,dear,2004,Oak Street 2
Chez Lu,French|Vegan,cheap,2011,Ash Street 3
Dragon,Chinese,cheap,,Fir Street 4
"""


def test_a_csv_file_is_a_domain(tmp_path: Path) -> None:
    path = tmp_path / "restaurants.csv"
    rows = [f"P{number},French,cheap,2001,Yew Street {number}" for number in range(30)]
    path.write_text(PLACES + "\n".join(rows), encoding="utf-8")
    domain = open_domain(str(path))
    assert (domain.name, domain.noun, domain.plural) == ("restaurants", "restaurant", "restaurants")
    assert sorted(domain.table.kinds) == ["cuisine", "decade", "price"]  # no addresses
    assert domain.attributes_of("Chez Lu") == (
        "cuisine:French",
        "cuisine:Vegan",
        "decade:2010s",
        "price:cheap",
    )
    assert domain.item("Aurora") == "Aurora (1991)"
    assert domain.prior([]) == pytest.approx(1 / 34)


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "shops.csv"
    path.write_text("code,what,sells\n1,Ann's,tea;jam\n2,Bob's,tea\n", encoding="utf-8")
    domain = from_csv(path, item="code", name="what", kinds=["sells"], noun="shop", separator=";")
    assert domain.item("1") == "Ann's"
    assert list(domain.table.attributes) == ["sells:jam", "sells:tea"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        ("name,kind\n", "has no rows"),
        ("name\nA\n", "no column to ask"),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        from_csv(path)


def test_an_unknown_domain_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no domain 'books'; there are ml-100k, lastfm"):
        open_domain("books")
    with pytest.raises(InputError, match="PERSONA_AGENT_DATA"):
        open_domain("lastfm")


def test_a_prior_goes_by_rank_and_leaves_out_what_has_no_title(domain: Domain) -> None:
    prior = domain.prior(["zq201"])
    assert prior.sum() == pytest.approx(1)
    assert prior.argmax() in domain.table.items.positions([f"zq2{n:02}" for n in range(12)])
    nameless = Domain.of("x", AttributeTable.of([("1", "a"), ("b", "a")]))
    assert nameless.prior([]).tolist() == [0.0, 1.0]


def test_what_is_sensitive_is_never_asked(domain: Domain) -> None:
    assert domain.askable.all()
    table = AttributeTable.of([("x", "a"), ("y", "b")], attribute_names={"b": "goes to church"})
    assert Domain.of("d", table).askable.tolist() == [True, False]


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 items and 0 attributes"):
        Domain.of("d", AttributeTable.of([], items=["x"]))


@pytest.mark.real("data")
def test_the_films_of_movielens() -> None:
    films = open_domain("ml-100k")
    assert sorted(films.table.kinds) == ["decade", "genre"]
    (alien,) = [one for one in films.table.items if films.item(one) == "Alien (1979)"]
    assert "decade:1970" in films.attributes_of(alien)
    best = films.table.items.ids[np.argmax(films.prior([alien]))]
    assert films.explain([alien], best) is not None

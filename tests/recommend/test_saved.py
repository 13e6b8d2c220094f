"""Saved recommenders are opened by what their folders say they are."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from persona_agent.errors import InputError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.readers import read_items
from persona_agent.recommend.saved import KINDS, open_saved


def test_a_model_opens_as_what_it_is(tmp_path: Path) -> None:
    data = Interactions.of(["ann", "ann", "bob"], ["tea", "jam", "tea"])
    EASE(l2=1).fit(data).save(tmp_path)
    opened = open_saved(tmp_path)
    assert isinstance(opened, EASE)
    assert opened.recommend([["jam"]], k=1).lists() == [["tea"]]


def test_every_kind_is_where_it_is_said_to_be() -> None:
    for name, module in KINDS.items():
        assert hasattr(getattr(import_module(f"persona_agent.recommend.{module}"), name), "load")


def test_what_is_no_model_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no saved recommender"):
        open_saved(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"model": "Oracle"}))
    with pytest.raises(InputError, match="holds a 'Oracle'; known kinds: AMPCF, EASE"):
        open_saved(tmp_path)


def test_items_are_read_from_csv(tmp_path: Path) -> None:
    table = tmp_path / "items.csv"
    table.write_text("item,title,genres,year\nb,Heat,Crime|Drama,1995\na,Alien,,\n")
    found = read_items(table)
    assert (list(found.ids), found.titles) == (["a", "b"], ("Alien", "Heat"))
    assert (found.genres, found.years) == (((), ("Crime", "Drama")), (0, 1995))
    table.write_text("item,title\na,Alien\n")
    assert read_items(table).years == (0,)
    table.write_text("item,name\na,Alien\n")
    with pytest.raises(InputError, match=r"there is no column \['title'\]"):
        read_items(table)

"""Rows of people in a saved model go when one of them is forgotten; the model works without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from persona_agent.bridge.history import ItemHistory
from persona_agent.bridge.saved_people import MODEL, SavedPeople
from persona_agent.errors import InputError
from persona_agent.recommend import files
from persona_agent.recommend.amp_cf import AMPCF, owners
from persona_agent.recommend.data import Interactions
from persona_agent.types import Scope

ITEMS = [f"i{number:02}" for number in range(30)]
LIKED = {
    "ann": ITEMS[:20],
    "bob": ITEMS[5:25],
    "eve": ITEMS[10:],
    "dan": ITEMS[::2],
    "twin": ITEMS[::2],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model of five people, each with so many items that some are held out in the fit."""
    pairs = [(user, item) for user, items in LIKED.items() for item in items]
    data = Interactions.of([user for user, _ in pairs], [item for _, item in pairs])
    AMPCF(personas=2, width=4, epochs=2, keep_people=True).fit(data).save(tmp_path)
    return tmp_path


def forgetting(folder: Path, liked: dict[str, list[str]] = LIKED) -> SavedPeople:
    return SavedPeople(folder, lambda scope: ItemHistory(tuple(liked.get(scope.user, ()))))


def owners_in(folder: Path) -> set[int]:
    return set(files.load(folder, MODEL).arrays["owners"].tolist())


def test_forgetting_one_drops_the_own_row_and_nothing_else(folder: Path) -> None:
    before = AMPCF.load(folder)
    others = [LIKED["bob"], LIKED["dan"]]
    vectors = before.person_vectors(others)
    saved = forgetting(folder)
    assert saved.forget(Scope("stranger")) == 0
    assert saved.forget(Scope("ann")) == 1
    assert saved.forget(Scope("ann")) == 0
    after = AMPCF.load(folder)
    assert owners_in(folder) == set(owners(["bob", "eve", "dan", "twin"]).tolist())
    assert np.array_equal(after.item_vectors(), before.item_vectors())
    assert np.array_equal(after.person_vectors(others), vectors)
    assert np.isfinite(after.person_vectors([LIKED["ann"]])).all()
    with pytest.raises(InputError):
        forgetting(folder / "nowhere").forget(Scope("ann"))


def test_a_row_is_found_by_its_user_though_the_history_has_changed(folder: Path) -> None:
    later = {"bob": [*LIKED["bob"], ITEMS[29]], "eve": []}
    assert [forgetting(folder, later).forget(Scope(user)) for user in later] == [1, 1]
    assert owners_in(folder) == set(owners(["ann", "dan", "twin"]).tolist())
    known = SavedPeople(folder, lambda scope: ItemHistory(), id_of=lambda scope: scope.user.lower())
    assert known.forget(Scope("ANN")) == 1


def test_rows_of_the_same_history_go_together(folder: Path) -> None:
    assert forgetting(folder).forget(Scope("dan")) == 2
    assert owners_in(folder) == set(owners(["ann", "bob", "eve"]).tolist())


def test_of_a_file_that_does_not_say_whose_a_row_is_all_rows_go(folder: Path) -> None:
    new = files.load(folder, MODEL)
    arrays = {name: one for name, one in new.arrays.items() if name != "owners"}
    files.save(folder, replace(new, arrays=arrays))
    assert forgetting(folder).forget(Scope("stranger")) == 0
    assert forgetting(folder).forget(Scope("ann")) == 5
    assert np.isfinite(AMPCF.load(folder).person_vectors([LIKED["ann"]])).all()

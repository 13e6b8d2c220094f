"""Rows of people in a saved model go when one of them is forgotten; the model works without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_agent.bridge.history import ItemHistory
from persona_agent.bridge.saved_people import SavedPeople
from persona_agent.errors import InputError
from persona_agent.recommend.amp_cf import AMPCF
from persona_agent.recommend.data import Interactions
from persona_agent.types import Scope

LIKED = {"ann": ("a", "b", "c"), "bob": ("b", "d"), "eve": ("c", "a")}


def test_forgetting_one_drops_the_rows_and_nothing_else(tmp_path: Path) -> None:
    pairs = [(user, item) for user, items in LIKED.items() for item in items]
    data = Interactions.of([user for user, _ in pairs], [item for _, item in pairs])
    AMPCF(personas=2, width=4, epochs=2, keep_people=True).fit(data).save(tmp_path)
    before = AMPCF.load(tmp_path)
    people = (tmp_path / "model.safetensors").stat().st_size
    saved = SavedPeople(tmp_path, lambda scope: ItemHistory(LIKED.get(scope.user, ())))
    assert saved.forget(Scope("stranger")) == 0
    assert saved.forget(Scope("ann")) == 3
    assert saved.forget(Scope("ann")) == 0
    after = AMPCF.load(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < people
    assert np.array_equal(after.item_vectors(), before.item_vectors())
    assert np.isfinite(after.person_vectors([LIKED["bob"], LIKED["ann"]])).all()
    with pytest.raises(InputError):
        SavedPeople(tmp_path / "nowhere", lambda scope: ItemHistory(("a",))).forget(Scope("ann"))

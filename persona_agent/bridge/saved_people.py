"""Rows of people in a saved AMP-CF model, forgotten when one of them is.

A model fitted with `keep_people` keeps a vector for every history that it was fitted on, under a
fingerprint of that history and no name. The history was the one of that time, without what the
fit held out by chance, so nobody can say which row is whose: all rows go. The model loses nothing
but time by it, since whoever has no row is folded in from what they like.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from persona_agent.bridge.history import HistoryOf
from persona_agent.recommend.files import load, save
from persona_agent.types import Scope

MODEL = "AMPCF"
ROWS = ("prints", "people")


class SavedPeople:
    """A saved AMP-CF model that must forget people. It is a `Forgetter` port.

    Only the file changes: a model that is loaded keeps its rows until it is loaded again. What a
    person's choices did to the items' vectors stays, as in every model: fit it again for that.
    """

    def __init__(self, folder: str | Path, history_of: HistoryOf) -> None:
        """Use the model in `folder`; `history_of` says what a user likes."""
        self._folder = Path(folder)
        self._history_of = history_of

    def forget(self, scope: Scope) -> int:
        """Drop the rows of people if the user may have one; return how many there were.

        Raises InputError for a folder that holds no such model.
        """
        saved = load(self._folder, MODEL)
        rows = saved.arrays.get(ROWS[0])
        liked = any(one in saved.items for one in self._history_of(scope).liked)
        if rows is None or not len(rows) or not liked:
            return 0
        empty = {name: saved.arrays[name][:0] for name in ROWS}
        save(self._folder, replace(saved, arrays={**saved.arrays, **empty}))
        return len(rows)

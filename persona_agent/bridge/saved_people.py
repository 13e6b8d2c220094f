"""Rows of people in a saved AMP-CF model, forgotten when one of them is.

A model fitted with `keep_people` keeps a vector for every history that it was given, under a hash
of that history and one of its user's id. What is liked later changes the history, not the id, so
a user's row is found by the id. The model loses nothing but time by it, since whoever has no row
is folded in from what they like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from persona_agent.bridge.history import HistoryOf
from persona_agent.recommend.amp_cf import fingerprints, owners
from persona_agent.recommend.data import Histories
from persona_agent.recommend.files import Saved, load, save
from persona_agent.recommend.ids import IntArray
from persona_agent.types import Scope

MODEL = "AMPCF"
ROWS = ("prints", "owners", "people")


class SavedPeople:
    """A saved AMP-CF model that must forget people. It is a `Forgetter` port.

    Only the file changes: a model that is loaded keeps its rows until it is loaded again. What a
    person's choices did to the items' vectors stays, as in every model: fit it again for that.
    """

    def __init__(
        self,
        folder: str | Path,
        history_of: HistoryOf,
        *,
        id_of: Callable[[Scope], str] = lambda scope: scope.user,
    ) -> None:
        """Use the model in `folder`; `history_of` says what a user likes.

        `id_of` says as whom the model was fitted on the user, by default under the same id.
        """
        self._folder = Path(folder)
        self._history_of = history_of
        self._id_of = id_of

    def forget(self, scope: Scope) -> int:
        """Drop the rows of a user, and those of the same history; return how many there were.

        In a file of an earlier version, which does not say whose a row is, all rows go if the user
        may have one. Raises InputError for a folder that holds no such model.
        """
        saved = load(self._folder, MODEL)
        if "prints" not in saved.arrays:
            return 0
        gone = self._rows(saved, scope)
        if len(gone):
            left = {
                name: np.delete(saved.arrays[name], gone, axis=0)
                for name in ROWS
                if name in saved.arrays
            }
            save(self._folder, replace(saved, arrays={**saved.arrays, **left}))
        return len(gone)

    def _rows(self, saved: Saved, scope: Scope) -> IntArray:
        """Return the places of the rows that are, or may be, a user's."""
        liked = Histories.of([self._history_of(scope).liked], saved.items, unknown="drop")
        if "owners" not in saved.arrays:
            return np.arange(len(saved.arrays["prints"]) if liked.matrix.nnz else 0)
        same = saved.arrays["prints"] == fingerprints(liked)[0]
        if not liked.matrix.nnz:
            same = np.zeros_like(same)
        return np.flatnonzero(same | (saved.arrays["owners"] == owners([self._id_of(scope)])[0]))

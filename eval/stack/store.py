"""The folder of a study: its design, and a file for each finished fit."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persona_agent.errors import InputError, NotEnoughData
from persona_agent.eval.stack.design import Design
from persona_agent.eval.stack.fit import Fit, PerUser, Task
from persona_agent.files import write_whole

FORMAT = 1
FIXED = ("protocol", "trials", "epochs", "seed")  # of a design: what decides a fit


@dataclass(frozen=True, slots=True)
class Store:
    """Where a study keeps what it has found; made by `open_store`.

    A fit is one JSON file, written last and whole, so that what is there is true: a study that
    was killed goes on where it was, and does again only the fits that were under way.
    """

    folder: Path

    def keep(self, fit: Fit, per_user: PerUser | None) -> None:
        """Write a finished fit."""
        path = self._path(fit.task)
        path.parent.mkdir(parents=True, exist_ok=True)
        if per_user is not None:
            data = io.BytesIO()
            users = np.array(list(per_user.users), dtype=np.str_)
            arrays: dict[str, Any] = {"users": users, **per_user.values}
            np.savez_compressed(data, **arrays)
            write_whole(path.with_suffix(".npz"), data.getvalue())
        write_whole(path, json.dumps(fit.to_json()).encode())

    def find(self, task: Task) -> Fit | None:
        """Return the fit of this task if it is finished.

        Raises InputError if its place holds another task's: the design has changed.
        """
        path = self._path(task)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        fit = fit_of(json.loads(text))
        if fit.task != task:
            raise InputError(
                f"{path} holds a fit of {fit.task.settings} where {task.settings} is due; "
                "give the study another folder"
            )
        return fit

    def get(self, task: Task) -> Fit:
        """Return the finished fit of this task; raises NotEnoughData if there is none yet."""
        found = self.find(task)
        if found is None:
            raise NotEnoughData(f"{task.dataset} {task.arm} {task.name} is not done; run the study")
        return found

    def count(self) -> int:
        """Return how many fits are finished."""
        return sum(1 for _ in self._paths())

    def per_user(self, task: Task) -> PerUser:
        """Return what a finished final fit gave each user."""
        with np.load(self._path(task).with_suffix(".npz"), allow_pickle=False) as found:
            values = {name: found[name] for name in found.files if name != "users"}
            return PerUser(found["users"].astype(object), values)

    def fits(self) -> Iterator[Fit]:
        """Yield all finished fits, by data set, arm and name."""
        for path in sorted(self._paths()):
            yield fit_of(json.loads(path.read_bytes()))

    def _paths(self) -> Iterator[Path]:
        return (self.folder / "fits").glob("*/*/*.json")

    def _path(self, task: Task) -> Path:
        return self.folder / "fits" / task.dataset / task.arm / f"{task.name}.json"


def open_store(folder: Path, design: Design) -> Store:
    """Return the folder's store, made if need be.

    A study may grow by data sets, cells, splits and seeds. Raises InputError if the folder holds
    one that differs in what decides a fit: two never mix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "design.json"
    if path.exists():
        before = saved_design(folder)
        for name in FIXED:
            there, here = getattr(before, name), getattr(design, name)
            if there != here:
                raise InputError(
                    f"{folder} holds a study whose {name} is {there}, here it is {here}; give "
                    "this one another folder"
                )
    write_whole(path, json.dumps({"format": FORMAT, "design": design.to_json()}, indent=1).encode())
    return Store(folder)


def saved_design(folder: Path) -> Design:
    """Return the design of the study in this folder; raises InputError if there is none."""
    path = folder / "design.json"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no study: {error}") from error
    if found.get("format") != FORMAT:
        raise InputError(f"{path} has format {found.get('format')!r}; this version reads {FORMAT}")
    given = found["design"]
    return Design(**{**given, "datasets": tuple(given["datasets"])})


def fit_of(found: dict[str, Any]) -> Fit:  # Any: JSON that `keep` wrote
    """Return the fit that was written as JSON."""
    return Fit(**{**found, "task": Task(**found["task"])})

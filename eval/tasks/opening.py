"""Task sets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from persona_agent.errors import InputError
from persona_agent.eval.tasks import films
from persona_agent.eval.tasks.cmv import cmv
from persona_agent.eval.tasks.lamp import KINDS, lamp
from persona_agent.eval.tasks.prefeval import prefeval_choice
from persona_agent.eval.tasks.rows import rows
from persona_agent.eval.tasks.task_set import TaskSet

INSTALLED: Mapping[str, Callable[[], TaskSet]] = {
    "ml-rating": films.ml_rating,
    "ml-best-of": films.ml_best_of,
    "ml-genre": films.ml_genre,
}
FROM_DATA: Mapping[str, Callable[[Path], TaskSet]] = {
    "ml-small-rating": films.ml_small_rating,
    "ml-small-tag": films.ml_small_tag,
    "prefeval-choice": prefeval_choice,
}
FROM_PATH: Mapping[str, Callable[[Path], TaskSet]] = {
    **{f"lamp-{name}": partial(lamp, name) for name in KINDS},
    "cmv": cmv,
    "rows": rows,
}
NAMES = (*INSTALLED, *FROM_DATA, *(f"{name}:PATH" for name in FROM_PATH))


def open_task(name: str, data: Path | None = None) -> TaskSet:
    """Return the task set of this name; `data` is the folder of all data, where one needs it.

    A name such as "rows:logs.jsonl" says itself where its data is. Raises ValueError for an unknown
    name, listing those there are, and InputError for data that is not there or cannot be read.
    """
    kind, _, path = name.partition(":")
    if path and kind in FROM_PATH:
        return FROM_PATH[kind](Path(path))
    if name in INSTALLED:
        return INSTALLED[name]()
    if name in FROM_DATA:
        if data is None:
            raise InputError(f"task {name!r} is read from a folder; set PERSONA_AGENT_DATA to it")
        return FROM_DATA[name](data)
    raise ValueError(f"there is no task {name!r}; there are {', '.join(NAMES)}")

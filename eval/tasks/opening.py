"""Task sets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from persona_agent.eval.tasks import films
from persona_agent.eval.tasks.task_set import TaskSet

BUILT_IN: Mapping[str, Callable[[], TaskSet]] = {"ml-rating": films.ml_rating}


def open_task(name: str, data: Path | None = None) -> TaskSet:
    """Return the task set of this name; `data` is the folder of all data, where one needs it.

    Raises ValueError for an unknown name, listing those there are, and InputError for data that
    is not there or cannot be read.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    raise ValueError(f"there is no task {name!r}; there are {', '.join(BUILT_IN)}")

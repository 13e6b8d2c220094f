"""Anybody's own logs as a task: JSONL or CSV, one interaction a line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from persona_agent import prompts
from persona_agent.errors import InputError
from persona_agent.eval.tasks.tables import text_of
from persona_agent.eval.tasks.task_set import TaskSet, split_by_time
from persona_agent.records import Format, read_lines
from persona_agent.task import Task, infer_task, is_labelled
from persona_agent.types import Interaction

LAST, SHARE = 8, 1 / 3
TIMELESS = datetime(9999, 1, 1, tzinfo=UTC)  # what a line without a time reads as; none is allowed
SHOWN = 3  # so many unreadable lines are named


def rows(path: Path, task: Task | None = None) -> TaskSet:
    """Return the last interactions of each user in a file as queries: a third, at most 8.

    The name ends with .jsonl or .csv, and the keys are those of `persona-agent memory import`; a
    line needs user, when, query, and an outcome that the user chose or said. Lines without an
    outcome, and those of assistants and tools, are no history and are left out. Without `task` it
    is what the outcomes imply (see `infer_task`).

    Raises InputError for a line that cannot be read or has no time, NotEnoughData if no user has a
    past and something later.
    """
    form = path.suffix.removeprefix(".").lower()
    if form not in get_args(Format):
        raise InputError(f"{path.name} must end with .jsonl or .csv, to say what it is")
    read = read_lines(
        text_of(path), "jsonl" if form == "jsonl" else "csv", scope=None, now=TIMELESS
    )
    if read.unread:
        named = "; ".join(f"line {one.line}: {one.reason}" for one in read.unread[:SHOWN])
        raise InputError(f"{len(read.unread)} lines of {path.name} cannot be read: {named}")
    by_user: dict[str, dict[str, Interaction]] = {}
    for one in read.interactions:
        if one.when == TIMELESS:
            raise InputError(f"{one.query[:80]!r} in {path.name} has no time; give 'when'")
        if is_labelled(one):
            by_user.setdefault(one.scope.user, {})[one.id] = one  # a line twice is one event
    labelled = [one for own in by_user.values() for one in own.values()]
    if not labelled:
        raise InputError(f"no line of {path.name} has an outcome; outcomes are what is predicted")
    task = infer_task(sorted(labelled, key=lambda one: one.when)) if task is None else task
    timelines = (
        sorted(own.values(), key=lambda one: (one.when, one.id)) for own in by_user.values()
    )
    histories, queries = split_by_time(timelines, last=LAST, share=SHARE)
    instruction = prompts.text("tasks", "rows", outcome_label=task.outcome_label.lower())
    return TaskSet(f"rows:{path.name}", task, histories, queries, instruction, metrics_of(task))


def metrics_of(task: Task) -> tuple[str, ...]:
    """Return the metrics that suit a task: errors of numbers, accuracy of choices, words of texts.

    A choice whose options differ from query to query has no labels, and so no macro-F1.
    """
    if task.numeric:
        return ("expected_mae", "mae", "rmse", "accuracy")
    if task.options:
        return ("accuracy", "macro_f1")
    return ("accuracy", "mrr") if task.name == "choice" else ("rouge_1", "rouge_l")

"""From what people did to the thoughts that led the model there: what `traces` learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from persona_agent.distil import Distilled, Trace, TraceOptions, cases_from, distil
from persona_agent.errors import NotEnoughData
from persona_agent.program import Program, Result
from persona_agent.task import Task, is_labelled
from persona_agent.train.examples import cut_of, earlier
from persona_agent.types import Interaction

TracesByUser: TypeAlias = Mapping[str, Sequence[Trace]]
NO_TRACES: TracesByUser = MappingProxyType({})


def thought_about(
    history: Sequence[Interaction],
    task_of: Callable[[Sequence[Interaction]], Task],
    options: TraceOptions = TraceOptions(),
    *,
    held_out: int = 0,
) -> Program[Distilled]:
    """Return the traces of one user's history in time order, but for the latest `held_out` outcomes.

    `task_of` gives the task of interactions that have outcomes. Raises NotEnoughData if there is
    nothing to think about.
    """
    known = earlier(history, cut_of(history, held_out))
    task = task_of([one for one in history if is_labelled(one)])
    cases = cases_from(known, task, options)
    if not cases:
        raise NotEnoughData(
            f"none of {len(known)} interactions is an outcome with something before it"
        )
    return (yield from distil(cases, task, options))


def by_user(found: Mapping[str, Result[Distilled]]) -> TracesByUser:
    """Return the traces of those whose distillation ended, by user."""
    return {user: one.unwrap().traces for user, one in found.items() if one.ok}

"""The keeper: a thread that learns in the background, under a budget, and never in a chat's way.

It extracts facts (the store's jobs), and aligns personas when somebody asked or when there are
enough new outcomes. Several processes may each have one: leases keep them apart.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import func, select

from persona_agent.agent import PersonaAgent
from persona_agent.align import Alignment, AlignOptions
from persona_agent.aligner import Progress
from persona_agent.closing import Closing
from persona_agent.errors import PersonaAgentError
from persona_agent.memory.operations import Operation, Operations
from persona_agent.memory.schema import events
from persona_agent.memory.store import Store
from persona_agent.serve.config import LearnPart
from persona_agent.types import Json, Scope, as_json

ALIGN = "align"
LOOK_S = 60.0  # between two looks for users who are due
HOUR_S = 3600.0
log = logging.getLogger("persona_agent.serve")


class Spending(Protocol):
    """Tells what background work asked of the model since it was last asked."""

    def __call__(self, kind: str, end: str) -> int:
        """Note that a piece of work ended; return its tokens."""
        ...


class Budget:
    """Tokens of the last hour, against what they may be; 0 is no bound."""

    def __init__(self, tokens_per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = tokens_per_hour
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()

    def spend(self, tokens: int) -> None:
        """Note tokens that were asked for."""
        if tokens:
            self._spent.append((self._clock(), tokens))

    @property
    def is_left(self) -> bool:
        """Whether more may be asked for now."""
        while self._spent and self._spent[0][0] <= self._clock() - HOUR_S:
            self._spent.popleft()
        return not self._most or sum(tokens for _, tokens in self._spent) < self._most


class Keeper(Closing):
    """Does what is to be done, one thing after the other, until it is closed."""

    def __init__(
        self,
        plan: LearnPart,
        store: Store,
        operations: Operations,
        *,
        agent_of: Callable[[str], PersonaAgent],
        spending: Spending,
        clock: Callable[[], datetime],
        tenant: str,
        look_s: float = LOOK_S,
    ) -> None:
        """Use these parts; every `look_s` seconds it looks for users who are due."""
        self._plan = plan
        self._store = store
        self._operations = operations
        self._agent_of = agent_of
        self._spending = spending
        self._now = clock
        self._tenant = tenant
        self._budget = Budget(plan.tokens_per_hour)
        self._look_s = look_s
        self._looked = time.monotonic()
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let it look for work now."""
        self._awake.set()

    def close(self) -> None:
        """End after the model requests under way; an alignment is given back, to go on later."""
        self._stopping.set()
        self._awake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                worked = self._work()
            except PersonaAgentError as error:
                worked = False
                log.warning("background work failed", extra={"reason": type(error).__name__})
            except Exception:  # the thread must live: what it could not do is tried again
                worked = False
                log.exception("background work broke")
            if not worked:
                self._awake.wait(self._plan.every_s)
                self._awake.clear()

    def _work(self) -> bool:
        """Do one piece of work; false if there is none, or the hour's budget is spent."""
        if self._plan.align and time.monotonic() - self._looked >= self._look_s:
            self._looked = time.monotonic()
            self._ask_for_due()
        if not self._budget.is_left:
            return False
        operation = self._operations.claim([ALIGN], self._now())
        if operation is not None:
            self._align(operation)
            return True
        if not self._plan.kinds:
            return False
        ran = self._agent_of(self._tenant).run_jobs(limit=1)
        for one in ran:
            self._budget.spend(self._spending(one.job.kind, one.end))
        return bool(ran)

    def _align(self, operation: Operation) -> None:
        """Align one user; every end is noted in the operation."""

        def tell(progress: Progress) -> None:
            told: dict[str, Json] = {
                "round": progress.round,
                "done": progress.done,
                "model_requests": progress.model_requests,
            }
            if self._stopping.is_set():
                raise _Interrupted
            if not self._operations.tell(operation, told, self._now()):
                raise _Interrupted  # forgotten, or taken over by somebody who thought us dead

        scope = operation.scope
        begun = time.monotonic()
        try:
            options = _options(operation)
            (result,) = self._agent_of(scope.tenant).align(
                [scope.user], options=options, on_round=tell
            )
            if result.error is not None:
                raise result.error
            end = "done"
            outcome = _told(result.unwrap(), time.monotonic() - begun)
            self._operations.finish(operation, outcome, self._now())
        except _Interrupted:
            end = "interrupted"
            self._operations.release(operation, self._now())
        except (PersonaAgentError, ValueError, TypeError) as error:
            end = "failed"
            self._operations.fail(operation, f"{type(error).__name__}: {error}", self._now())
        self._budget.spend(self._spending(ALIGN, end))

    def _ask_for_due(self) -> None:
        """Ask for the alignment of users with enough outcomes that are new since their last."""
        least = max(self._plan.align_after, AlignOptions().needed)
        count = func.count()
        query = (
            select(events.c.tenant, events.c.user, count.label("outcomes"))
            .where(events.c.outcome.is_not(None), events.c.role == "user")
            .group_by(events.c.tenant, events.c.user)
            .having(count >= least)
        )
        with self._store.database.read() as connection:
            found = connection.execute(query).all()
        for tenant, user, outcomes in found:
            scope = Scope(user, tenant)
            last = self._operations.list(tenant, scope, limit=1)
            before: Any = last[0].options.get("outcomes", 0) if last else 0
            if outcomes - int(before) >= self._plan.align_after:
                self._operations.ask(scope, ALIGN, self._now(), options={"outcomes": outcomes})


class _Interrupted(Exception):
    """The alignment is to stop here."""


def _options(operation: Operation) -> AlignOptions:
    """Return how an operation is to be aligned; raises TypeError or ValueError."""
    given: dict[str, Any] = {  # Any: numbers, which the options check
        key: value for key, value in operation.options.items() if key != "outcomes"
    }
    return AlignOptions(**given)


def _told(found: Alignment, seconds: float) -> Json:
    """Return an alignment as the operation keeps it: how it ended, not everything that was tried.

    `seconds` is how long this process worked on it; an attempt before that was given back is not
    in it.
    """
    return {
        "accepted": found.accepted,
        "reason": found.reason,
        "version": found.after.version,
        "from_version": found.before.version,
        "rounds": found.rounds,
        "candidates": len(found.tried),
        "before_scores": as_json(found.before_scores),
        "after_scores": as_json(found.after_scores),
        "diff": as_json(found.diff),
        "usage": as_json(found.usage),
        "seconds": round(seconds, 3),
    }

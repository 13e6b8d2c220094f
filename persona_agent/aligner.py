"""Alignments of many users: begun, driven round by round, saved between rounds, committed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import TypeAlias

from pydantic import TypeAdapter

from persona_agent.align import (
    Alignment,
    AlignOptions,
    AlignState,
    History,
    align_round,
    begin,
    finish,
    split,
)
from persona_agent.drive import Ports, Round, run, run_many
from persona_agent.errors import InputError, NotEnoughData, PersonaAgentError, UnknownUser
from persona_agent.memory.store import Store
from persona_agent.persona import Persona, PersonaLine, fit
from persona_agent.personas import Personas, first
from persona_agent.program import Program, Result, salted
from persona_agent.propose import Proposer, start_lines, summarise
from persona_agent.task import Task, infer_task
from persona_agent.types import Interaction, Scope, as_json

KEY = "alignment"
_Reached: TypeAlias = Persona | AlignState  # by one program: the first version, or a round
FEWEST = 5  # outcomes that a first version is made from; with fewer it is made anew each time


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the alignments of many users stand, after a round of model requests."""

    users: int
    done: int
    round: int
    model_requests: int


@dataclass(slots=True)
class _Case:
    """One user's alignment under way; `after` is the version it led to, once that is stored."""

    persona: Persona
    history: History
    task: Task
    state: AlignState
    epoch: int | None
    after: Persona | None = None


@cache
def _adapter() -> TypeAdapter[AlignState]:
    return TypeAdapter(AlignState)


class Aligner:
    """Drives alignments against a store and a model."""

    def __init__(
        self,
        store: Store,
        personas: Personas,
        ports: Ports,
        *,
        clock: Callable[[], datetime],
        task: Task | None,
        proposers: Sequence[Proposer],
        summarise_history: bool,
        salt: Callable[[Scope], str | None] = lambda scope: None,
    ) -> None:
        """Use these parts; `salt` names the prefix cache of a user's prompts, see `salts`."""
        self._store = store
        self._personas = personas
        self._ports = ports
        self._now = clock
        self._task = task
        self._proposers = tuple(proposers)
        self._summarise = summarise_history
        self._salt = salt

    def labelled(self, scope: Scope) -> list[Interaction]:
        """Return the interactions of a user that have the user's own outcome, in time order."""
        return self._store.labelled(scope)

    def task(self, labelled: Sequence[Interaction]) -> Task:
        """Return the task that was given, else the one that the outcomes imply."""
        return self._task or infer_task(labelled)

    def start(self, scope: Scope, options: AlignOptions) -> Persona:
        """Return the persona a user starts from: statistics of what an alignment will not use.

        Where there is enough history for an alignment, its blocks take no part. Nothing is
        stored. Raises UnknownUser.
        """
        return self._first(scope, self._known(scope), options)

    def begun(self, scope: Scope, options: AlignOptions) -> Persona:
        """Return a user's stored persona; who has enough outcomes and none gets a first version.

        Only that first version asks the model, for its summary. Raises UnknownUser.
        """
        head = self._personas.head(scope)
        if head is not None:
            return head
        labelled = self._known(scope)
        if len(labelled) < FEWEST:
            return self._first(scope, labelled, options)
        program = self._starting(scope, _seen(labelled, options))
        return self._personas.save(first(run(program, self._ports)))

    def _first(
        self, scope: Scope, labelled: Sequence[Interaction], options: AlignOptions
    ) -> Persona:
        seen = _seen(labelled, options)
        if not seen:
            return Persona(scope)
        return _start(scope, seen, start_lines(seen, self.task(seen)))

    def _known(self, scope: Scope) -> list[Interaction]:
        """Return the labelled interactions of a user of whom something is stored."""
        labelled = self.labelled(scope)
        if not labelled and not self._store.count(scope):
            raise UnknownUser(
                f"nothing is stored about user {scope.user!r}; add interactions first"
            )
        return labelled

    def align(
        self,
        scopes: Sequence[Scope],
        options: AlignOptions,
        on_round: Callable[[Progress], None] | None = None,
    ) -> list[Result[Alignment]]:
        """Return one result a user, in order; what was stopped resumes, what is done is kept.

        A user without a persona gets the first version on the way. No user waits for another's
        model replies, where the model works on many batches at once.
        """
        batch = _Batch(self, options)
        programs = {scope: batch.begin(scope) for scope in scopes}
        active = {scope: one for scope, one in programs.items() if one is not None}
        order = list(active)
        run_many(
            active.values(),
            self._ports,
            follow=lambda place, result: batch.follow(order[place], result),
            on_round=_teller(on_round, len(scopes), len(scopes) - len(active)),
        )
        return [batch.results[scope] for scope in scopes]

    def _round(self, case: _Case) -> Program[_Reached]:
        program = align_round(case.state, case.persona, case.history, case.task, self._proposers)
        return salted(program, self._salt(case.state.scope))

    def _enough(self, scope: Scope, options: AlignOptions) -> list[Interaction]:
        labelled = self._known(scope)
        split(labelled, options, repr(scope.user))
        return labelled

    def _starting(self, scope: Scope, seen: Sequence[Interaction]) -> Program[Persona]:
        """Return the start of a user's persona: statistics, and a model's summary if wanted."""
        task = self.task(seen)
        lines = start_lines(seen, task)
        if self._summarise:
            lines += yield from salted(summarise(scope, seen, task), self._salt(scope))
        return _start(scope, seen, lines)

    def _case(
        self,
        persona: Persona,
        labelled: Sequence[Interaction],
        epoch: int | None,
        options: AlignOptions,
    ) -> _Case:
        history = split(labelled, options, repr(persona.scope.user))
        task = self.task((*history.earlier, *history.recent))
        _check_outcomes(labelled, task)
        state = begin(persona, history, options)
        saved = self._load(persona.scope)
        if saved is not None:
            if _key(saved) == _key(state):
                return _Case(persona, history, task, saved, epoch)
            if saved.accepted and _key(saved) == _key(
                replace(state, base_version=persona.parent or 0)
            ):
                before = self._personas.version(persona.scope, saved.base_version)
                return _Case(before, history, task, saved, epoch, after=persona)
            if set(saved.held_out) & set(state.held_out):
                state = replace(state, tried_before=saved.tried_before + len(saved.tried))
        _check_unseen(persona, history, labelled)
        return _Case(persona, history, task, state, epoch)

    def _commit(self, case: _Case) -> Result[Alignment]:
        alignment = finish(case.state, case.persona, case.history)
        if case.after is not None:
            alignment = replace(alignment, after=case.after)
        elif alignment.accepted:
            try:
                after = self._personas.save(alignment.after, epoch=case.epoch)
            except PersonaAgentError as error:  # the persona changed meanwhile, or the disk did
                return Result(error=error, usage=alignment.usage)
            alignment = replace(alignment, after=after)
        return Result(value=alignment, rounds=alignment.rounds, usage=alignment.usage)

    def _load(self, scope: Scope) -> AlignState | None:
        document = self._store.load_alignment(scope, KEY)
        return None if document is None else _adapter().validate_json(document)

    def _save(self, case: _Case) -> None:
        document = json.dumps(as_json(case.state), ensure_ascii=False)
        scope = case.state.scope
        self._store.save_alignment(scope, KEY, document, now=self._now(), epoch=case.epoch)


class _Batch:
    """The alignments of one call: where each user stands, and the results of those who ended.

    Every user's failure is a result, and data to the others; only a store that cannot keep what
    was reached ends the call.
    """

    def __init__(self, aligner: Aligner, options: AlignOptions) -> None:
        self._aligner = aligner
        self._options = options
        self._known: dict[Scope, tuple[list[Interaction], int | None]] = {}
        self._cases: dict[Scope, _Case] = {}
        self.results: dict[Scope, Result[Alignment]] = {}

    def begin(self, scope: Scope) -> Program[_Reached] | None:
        """Return what is to be run first for this user; None if there is nothing left to do."""
        aligner = self._aligner
        try:
            epoch = aligner._store.epoch(scope)  # before anything is read
            labelled = aligner._enough(scope, self._options)
            self._known[scope] = labelled, epoch
            head = aligner._personas.head(scope)
            if head is None:
                return aligner._starting(scope, _seen(labelled, self._options))
            return self._open(scope, head)
        except PersonaAgentError as error:
            self.results[scope] = Result(error=error)
            return None

    def follow(self, scope: Scope, result: Result[_Reached]) -> Program[_Reached] | None:
        """Save what was reached, the first version or a round; return what is to be run next."""
        if result.error is not None:
            self.results[scope] = Result(error=result.error)
            return None
        reached = result.unwrap()
        if isinstance(reached, Persona):
            return self._first_version(scope, reached)
        case = self._cases[scope]
        case.state = reached
        try:
            self._aligner._save(case)
        except UnknownUser as error:  # forgotten meanwhile
            self.results[scope] = Result(error=error)
            return None
        return self._go_on(scope)

    def _first_version(self, scope: Scope, start: Persona) -> Program[_Reached] | None:
        try:
            epoch = self._known[scope][1]
            return self._open(scope, self._aligner._personas.save(first(start), epoch=epoch))
        except PersonaAgentError as error:
            self.results[scope] = Result(error=error)
            return None

    def _open(self, scope: Scope, head: Persona) -> Program[_Reached] | None:
        labelled, epoch = self._known[scope]
        case = self._aligner._case(head, labelled, epoch, self._options)
        self._cases[scope] = case
        return self._go_on(scope)

    def _go_on(self, scope: Scope) -> Program[_Reached] | None:
        """Return the next round, or commit what the last one reached."""
        case = self._cases[scope]
        if not case.state.done:
            return self._aligner._round(case)
        self.results[scope] = self._aligner._commit(case)
        return None


def _check_outcomes(labelled: Sequence[Interaction], task: Task) -> None:
    """Raise InputError for an outcome that a numeric task cannot compare."""
    for one in labelled if task.numeric else ():
        try:
            float(one.outcome or "")
        except ValueError as error:
            raise InputError(
                f"interaction {one.id!r} has the outcome {one.outcome!r}; task {task.name!r} needs "
                f"a number, such as {task.options[0]}"
            ) from error


def _seen(labelled: Sequence[Interaction], options: AlignOptions) -> Sequence[Interaction]:
    """Return what a persona may start from: all, where there is too little for an alignment."""
    if len(labelled) < options.needed:
        return labelled
    return split(labelled, options).earlier


def _start(scope: Scope, seen: Sequence[Interaction], lines: Sequence[PersonaLine]) -> Persona:
    persona = Persona(scope, origin="start", seen_id=seen[-1].id, seen_until=seen[-1].when)
    return replace(persona, lines=fit(lines, persona))


def _key(state: AlignState) -> tuple[int, tuple[str, ...], AlignOptions]:
    return state.base_version, state.held_out, state.options


def _check_unseen(persona: Persona, history: History, labelled: Sequence[Interaction]) -> None:
    """Raise NotEnoughData if the gate would judge on what the persona was made from."""
    if persona.seen_id is None or persona.seen_until is None:
        return
    ids = [one.id for one in labelled]
    if persona.seen_id in ids:
        new = len(ids) - 1 - ids.index(persona.seen_id)
    else:  # that interaction was deleted: go by time
        new = sum(one.when > persona.seen_until for one in labelled)
    needed = len(history.held_out)
    if new < needed:
        raise NotEnoughData(
            f"{persona.scope.user!r} has {new} interactions with an outcome since version "
            f"{persona.version} was made; judging a change needs {needed} that it has not seen. "
            "Add more, or lower held_out"
        )
    later = {one.id for one in (*history.recent, *history.judging)}
    known = {i for line in persona.lines for i in line.evidence} & later
    if known:
        raise NotEnoughData(
            f"version {persona.version} of {persona.scope.user!r} was made from {len(known)} of "
            "the interactions that it would be tested on. Add more, or lower held_out or rounds"
        )


def _teller(
    on_round: Callable[[Progress], None] | None, users: int, done: int
) -> Callable[[Round], None] | None:
    if on_round is None:
        return None
    return lambda one: on_round(
        Progress(users, done + one.finished, one.number, one.model_requests)
    )

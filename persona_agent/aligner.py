"""Alignments of many users: begun, driven round by round, saved between rounds, committed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

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
from persona_agent.errors import InputError, NotEnoughData, PersonaAgentError, UnknownUser
from persona_agent.memory.store import Store
from persona_agent.persona import Persona, PersonaLine, fit
from persona_agent.personas import Personas, first
from persona_agent.program import Ports, Program, Result, Round, run, run_many, salted
from persona_agent.propose import Proposer, start_lines, summarise
from persona_agent.task import Task, infer_task
from persona_agent.types import Interaction, Scope, as_json

KEY = "alignment"
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
        """Return one result a user, in order; what was stopped resumes, what is done is kept."""
        failed: dict[Scope, Exception] = {}
        cases = self._cases(scopes, options, failed)
        active = [scope for scope, case in cases.items() if not case.state.done]
        done = {scope: self._commit(case) for scope, case in cases.items() if case.state.done}

        def follow(place: int, result: Result[AlignState]) -> Program[AlignState] | None:
            """Save what a round reached, and return the next round."""
            scope = active[place]
            case = cases[scope]
            if result.error is not None:
                failed[scope] = result.error
                return None
            case.state = result.unwrap()
            try:
                self._save(case)
            except UnknownUser as error:  # forgotten meanwhile: the others go on
                failed[scope] = error
                return None
            if not case.state.done:
                return self._round(case)
            done[scope] = self._commit(case)
            return None

        run_many(
            [self._round(cases[scope]) for scope in active],
            self._ports,
            follow=follow,
            on_round=_teller(on_round, len(scopes), len(scopes) - len(active)),
        )
        return [done[s] if s in done else Result(error=failed[s]) for s in scopes]

    def _round(self, case: _Case) -> Program[AlignState]:
        program = align_round(case.state, case.persona, case.history, case.task, self._proposers)
        return salted(program, self._salt(case.state.scope))

    def _cases(
        self,
        scopes: Sequence[Scope],
        options: AlignOptions,
        failed: dict[Scope, Exception],
    ) -> dict[Scope, _Case]:
        labelled: dict[Scope, list[Interaction]] = {}
        epochs = {scope: self._store.epoch(scope) for scope in scopes}  # before anything is read
        for scope in scopes:
            try:
                labelled[scope] = self._enough(scope, options)
            except PersonaAgentError as error:
                failed[scope] = error
        heads = self._heads(labelled, epochs, options, failed)
        cases = {}
        for scope, persona in heads.items():
            try:
                cases[scope] = self._case(persona, labelled[scope], epochs[scope], options)
            except PersonaAgentError as error:
                failed[scope] = error
        return cases

    def _enough(self, scope: Scope, options: AlignOptions) -> list[Interaction]:
        labelled = self._known(scope)
        split(labelled, options, repr(scope.user))
        return labelled

    def _heads(
        self,
        labelled: Mapping[Scope, list[Interaction]],
        epochs: Mapping[Scope, int | None],
        options: AlignOptions,
        failed: dict[Scope, Exception],
    ) -> dict[Scope, Persona]:
        """Return every user's stored persona; those who have none get their first version."""
        stored = {scope: self._personas.head(scope) for scope in labelled}
        heads = {scope: head for scope, head in stored.items() if head is not None}
        new = [scope for scope, head in stored.items() if head is None]
        programs = [self._starting(scope, _seen(labelled[scope], options)) for scope in new]
        for scope, result in zip(new, run_many(programs, self._ports), strict=True):
            try:
                new_head = first(result.unwrap())
                heads[scope] = self._personas.save(new_head, epoch=epochs[scope])
            except Exception as error:  # noqa: BLE001 - one user's failure is data to the others
                failed[scope] = error
        return heads

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

"""Test-time alignment: simulate, propose, gate, accept.

PersonaAgent's loop (Zhang et al. 2025, algorithm 1) as a fold over a state that can be saved:
`align_round` takes a state and returns the next one, so that an alignment stopped between rounds
resumes identically. What it adds is the gate (`gate.py`), anchors that must not regress, locked
lines that survive, and proposers that need no model (`propose.py`).

A user's labelled history is split in time: earlier | recent | anchors | held out. The persona
starts from what is earlier. Each round takes the next block of the recent ones, later than
everything that made the persona so far, simulates it, and proposes from it. The gate judges on what is held out
and on the anchors, later than all proposing. So no prompt holds, not even in its persona, the
outcome of the interaction it predicts, or of a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_agent import prompts
from persona_agent.errors import NotEnoughData
from persona_agent.gate import Measure, Scores, Verdict, judge
from persona_agent.persona import Diff, Persona, PersonaLine, diff, fit
from persona_agent.predict import (
    Calibration,
    Job,
    RecallPlan,
    likelihood_requests,
    predict,
    remember,
)
from persona_agent.program import Program, complete, metered
from persona_agent.propose import Draft, Proposer, Simulation, Situated
from persona_agent.task import Task, is_right, score, situation
from persona_agent.types import Interaction, Record, Scope, Usage


@dataclass(frozen=True, slots=True)
class AlignOptions(Record):
    """How an alignment is done.

    Each of at most `rounds` rounds simulates `recent` interactions; `held_out` later ones judge,
    and of `anchors` none may regress. `risk` is the chance of accepting a persona that is no
    better. `plan` says what is recalled for a prediction. The gate goes by `measure`: the likelihood
    of the real outcomes, where the engine tells it, or the task's metric.
    """

    recent: int = 3
    held_out: int = 12
    anchors: int = 4
    rounds: int = 3
    risk: float = 0.05
    seed: int = 0
    plan: RecallPlan = RecallPlan()
    calibration: Calibration = "none"
    measure: Measure = "likelihood"

    def __post_init__(self) -> None:
        if self.measure not in ("likelihood", "metric"):
            raise ValueError(f"measure is {self.measure!r}; it must be likelihood or metric")
        for name, least in (("recent", 1), ("held_out", 2), ("anchors", 0), ("rounds", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")

    @property
    def needed(self) -> int:
        """How many labelled interactions an alignment needs: the blocks, and one before them."""
        return self.recent * self.rounds + self.anchors + self.held_out + 1


@dataclass(frozen=True, slots=True)
class History(Record):
    """A user's labelled interactions in time order, split for one alignment."""

    earlier: tuple[Interaction, ...]
    recent: tuple[Interaction, ...]
    anchors: tuple[Interaction, ...]
    held_out: tuple[Interaction, ...]

    @property
    def judging(self) -> tuple[Interaction, ...]:
        """What judges: it takes no part in proposing."""
        return (*self.anchors, *self.held_out)


def split(
    labelled: Sequence[Interaction], options: AlignOptions, user: str = "this user"
) -> History:
    """Return labelled interactions, in time order, split for an alignment.

    Raises NotEnoughData, saying how many are needed, if the blocks cannot be filled.
    """
    count = len(labelled)
    learned = options.recent * options.rounds
    if count < options.needed:
        raise NotEnoughData(
            f"{user} has {count} interactions with an outcome; aligning needs {options.needed}: "
            f"{options.held_out} held out, {options.anchors} anchors, {learned} to learn from and "
            "1 before them. Add more, or lower held_out, anchors, recent or rounds"
        )
    held = count - options.held_out
    anchors = held - options.anchors
    recent = anchors - learned
    rows = tuple(labelled)
    return History(rows[:recent], rows[recent:anchors], rows[anchors:held], rows[held:])


@dataclass(frozen=True, slots=True)
class Tried(Record):
    """A candidate that was compared: its lines, who proposed it, and what the gate said."""

    lines: tuple[PersonaLine, ...]
    proposer: str
    note: str
    verdict: Verdict
    round: int


@dataclass(frozen=True, slots=True)
class AlignState(Record):
    """All that an alignment knows between two rounds; it can be saved and resumed.

    `lines` are the best accepted so far, `scores` theirs on the held-out block (None before the
    first round), `old_scores` those of the persona it began with. `tried_before` counts candidates
    that earlier alignments compared on some of the same held-out interactions.
    """

    scope: Scope
    base_version: int
    lines: tuple[PersonaLine, ...]
    held_out: tuple[str, ...]
    options: AlignOptions = AlignOptions()
    round: int = 0
    scores: Scores | None = None
    old_scores: Scores | None = None
    tried: tuple[Tried, ...] = ()
    tried_before: int = 0
    accepted: int = 0
    usage: Usage = Usage()
    done: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alignment(Record):
    """How an alignment ended: the persona before and after, and everything that was tried."""

    accepted: bool
    before: Persona
    after: Persona
    rounds: int
    tried: tuple[Tried, ...]
    before_scores: Scores
    after_scores: Scores
    usage: Usage
    reason: str

    @property
    def diff(self) -> Diff:
        """What changed in the persona."""
        return diff(self.before, self.after)

    def __str__(self) -> str:
        what = "accepted" if self.accepted else "unchanged"
        head = (
            f"{prompts.as_data(self.before.scope.user, 80)}: {what} after {self.rounds} rounds and "
            f"{len(self.tried)} candidates ({self.reason}); {self.usage.requests} model requests"
        )
        return f"{head}\n{self.diff}" if self.accepted else head


def begin(persona: Persona, history: History, options: AlignOptions) -> AlignState:
    """Return the state of an alignment that has not begun."""
    held = tuple(one.id for one in history.held_out)
    return AlignState(persona.scope, persona.version, persona.lines, held, options)


def align_round(
    state: AlignState,
    persona: Persona,
    history: History,
    task: Task,
    proposers: Sequence[Proposer],
) -> Program[AlignState]:
    """Return the state after one more round: simulate, propose, gate, accept.

    Raises ValueError if the state belongs to another user, persona version or held-out block.
    """
    _check(state, persona, history)
    state, usage = yield from metered(_round(state, persona, history, task, proposers))
    return replace(state, usage=state.usage + usage)


def _round(
    state: AlignState,
    persona: Persona,
    history: History,
    task: Task,
    proposers: Sequence[Proposer],
) -> Program[AlignState]:
    if state.scores is None:
        scores = (yield from _score([state.lines], history.held_out, task, state))[0]
        state = replace(state, scores=scores, old_scores=scores)
    seen = situated(state, persona, history, task)
    drafts = yield from _drafts(seen, proposers, persona, state)
    state = replace(state, round=state.round + 1)
    if not drafts:
        return replace(state, done=True, reason=_reason(state, "nothing new to try"))
    measured = yield from _score([d.lines for d in drafts], history.held_out, task, state)
    state = yield from _accept(state, drafts, measured, history, task)
    if state.round >= state.options.rounds:
        state = replace(state, done=True, reason=_reason(state, "all rounds done"))
    return state


def situated(state: AlignState, persona: Persona, history: History, task: Task) -> Situated:
    """Return what proposers may know in the round that `state` has come to."""
    block, known = _block(history, state)
    return Situated(
        scope=state.scope,
        lines=state.lines,
        locked=tuple(line for line in persona.lines if line.locked),
        history=known,
        recent=block,
        simulate=lambda: _simulate(state, block, task),
        task=task,
        round=state.round,
        seed=state.options.seed,
    )


def finish(state: AlignState, persona: Persona, history: History) -> Alignment:
    """Return the outcome of an alignment that is done, with the next version of the persona.

    Raises ValueError if it is not done.
    """
    if not state.done or state.scores is None or state.old_scores is None:
        raise ValueError(f"the alignment of {state.scope.user!r} is not done; run more rounds")
    after = persona
    if state.accepted:
        last = history.held_out[-1]
        verdict = [one.verdict for one in state.tried if one.verdict.accepted][-1]
        after = replace(
            persona,
            lines=state.lines,
            version=persona.version + 1,
            parent=persona.version,
            origin="alignment",
            note=verdict.reason,
            seen_id=last.id,
            seen_until=last.when,
            scores=_summary(state.old_scores, state.scores, verdict, len(state.tried)),
        )
    return Alignment(
        accepted=bool(state.accepted),
        before=persona,
        after=after,
        rounds=state.round,
        tried=state.tried,
        before_scores=state.old_scores,
        after_scores=state.scores,
        usage=state.usage,
        reason=state.reason,
    )


def align(
    persona: Persona,
    history: History,
    task: Task,
    proposers: Sequence[Proposer],
    options: AlignOptions = AlignOptions(),
) -> Program[Alignment]:
    """Return the whole alignment of one user, all rounds in one program."""
    state = begin(persona, history, options)
    while not state.done:
        state = yield from align_round(state, persona, history, task, proposers)
    return finish(state, persona, history)


def _check(state: AlignState, persona: Persona, history: History) -> None:
    if state.done:
        raise ValueError(f"the alignment of {state.scope.user!r} is already done")
    if (state.scope, state.base_version) != (persona.scope, persona.version):
        raise ValueError(
            f"the state began with version {state.base_version} of {state.scope.user!r}, "
            f"not with version {persona.version} of {persona.scope.user!r}; begin again"
        )
    if state.held_out != tuple(one.id for one in history.held_out):
        raise ValueError(
            f"the held-out interactions of {state.scope.user!r} have changed since the alignment "
            "began; begin again"
        )


def _simulate(
    state: AlignState, block: Sequence[Interaction], task: Task
) -> Program[tuple[Simulation, ...]]:
    """Return what the agent predicts of a block, all in one batch, beside what happened."""
    jobs = yield from _jobs(state.lines, block, task, state)
    predictions = yield from predict(jobs, task, calibration=state.options.calibration)
    return tuple(map(Simulation, block, predictions))


def _block(
    history: History, state: AlignState
) -> tuple[tuple[Interaction, ...], tuple[Interaction, ...]]:
    """Return the interactions this round simulates, and all that is known after they happened."""
    start = state.round * state.options.recent
    end = start + state.options.recent
    return history.recent[start:end], (*history.earlier, *history.recent[:end])


def _jobs(
    lines: tuple[PersonaLine, ...], block: Sequence[Interaction], task: Task, state: AlignState
) -> Program[list[Job]]:
    situations = [situation(one, task) for one in block]
    memories = yield from remember(state.scope, state.options.plan, situations, block[0].id)
    return [Job(lines, known, one) for known, one in zip(memories, situations, strict=True)]


def _score(
    candidates: Sequence[tuple[PersonaLine, ...]],
    block: Sequence[Interaction],
    task: Task,
    state: AlignState,
) -> Program[list[Scores]]:
    """Return the scores of each candidate on a block, predicted in one batch."""
    jobs = yield from _jobs((), block, task, state)
    sets = [[replace(job, lines=lines) for job in jobs] for lines in candidates]
    return (yield from _measure(sets, block, task, state.options))


def _measure(
    sets: Sequence[Sequence[Job]], block: Sequence[Interaction], task: Task, options: AlignOptions
) -> Program[list[Scores]]:
    flat = [job for jobs in sets for job in jobs]
    outcomes = [one.outcome or "" for one in block] * len(sets)
    predictions = yield from predict(flat, task, calibration=options.calibration)
    metric = [
        score(task, prediction, outcome)
        for prediction, outcome in zip(predictions, outcomes, strict=True)
    ]
    loglik: list[float | None] = [
        prediction.loglik(outcome)
        for prediction, outcome in zip(predictions, outcomes, strict=True)
    ]
    if flat and not any(job.situation.options for job in flat):
        loglik = yield from _word_likelihoods(flat, task, outcomes)
    size = len(block)
    result = []
    for i in range(len(sets)):
        part = slice(i * size, (i + 1) * size)
        known = [value for value in loglik[part] if value is not None]
        result.append(Scores(tuple(metric[part]), tuple(known) if len(known) == size else ()))
    return result


def _word_likelihoods(
    jobs: Sequence[Job], task: Task, outcomes: Sequence[str]
) -> Program[list[float | None]]:
    """Return the log-likelihood of each free-text outcome, per word; None where not known."""
    replies = yield from complete(likelihood_requests(jobs, task, outcomes))
    return [
        None if reply.logprobs is None else reply.logprobs[0] / max(1, len(outcome.split()))
        for reply, outcome in zip(replies, outcomes, strict=True)
    ]


def _drafts(
    seen: Situated, proposers: Sequence[Proposer], persona: Persona, state: AlignState
) -> Program[list[Draft]]:
    """Return what the proposers propose, made legal, without what was tried before."""
    known = {_key(state.lines), *(_key(one.lines) for one in state.tried)}
    drafts = []
    for proposer in proposers:
        for draft in (yield from proposer(seen)):
            legal = fit(draft.lines, persona)
            if _key(legal) not in known:
                known.add(_key(legal))
                drafts.append(replace(draft, lines=legal))
    return drafts


def _key(lines: Sequence[PersonaLine]) -> str:
    return " ".join(line.id for line in lines)


def _accept(
    state: AlignState,
    drafts: Sequence[Draft],
    scores: Sequence[Scores],
    history: History,
    task: Task,
) -> Program[AlignState]:
    """Return the state with every draft judged, and the best that passes accepted."""
    old = state.scores
    if old is None:
        raise ValueError("candidates cannot be judged before the current persona is scored")
    tried = state.tried_before + len(state.tried) + len(drafts)
    verdicts = [
        judge(*_comparable(old, new, state.options), tried=tried, risk=state.options.risk)
        for new in scores
    ]
    passing = sorted(
        (i for i, verdict in enumerate(verdicts) if verdict.accepted),
        key=lambda i: -verdicts[i].gain,
    )
    winner = None
    if passing and history.anchors:
        candidates = [state.lines, *(drafts[i].lines for i in passing)]
        anchored = yield from _score(candidates, history.anchors, task, state)
        for i, new in zip(passing, anchored[1:], strict=True):
            lost = _regressed(task, anchored[0], new)
            if lost:
                reason = f"{lost} of {len(history.anchors)} anchors regress"
                verdicts[i] = replace(verdicts[i], accepted=False, reason=reason)
            elif winner is None:
                winner = i
    elif passing:
        winner = passing[0]
    for i in passing:
        if i != winner and verdicts[i].accepted:
            verdicts[i] = replace(
                verdicts[i], accepted=False, reason="passes, but another candidate gains more"
            )
    records = [
        Tried(draft.lines, draft.proposer, draft.note, verdict, state.round)
        for draft, verdict in zip(drafts, verdicts, strict=True)
    ]
    state = replace(state, tried=(*state.tried, *records))
    if winner is None:
        return state
    return replace(
        state,
        lines=drafts[winner].lines,
        scores=scores[winner],
        accepted=state.accepted + 1,
    )


def _comparable(old: Scores, new: Scores, options: AlignOptions) -> tuple[Scores, Scores]:
    """Return both scores, without likelihoods if one of them lacks them or they are not to count."""
    if old.loglik and new.loglik and options.measure == "likelihood":
        return old, new
    return replace(old, loglik=()), replace(new, loglik=())


def _regressed(task: Task, old: Scores, new: Scores) -> int:
    """Return how many anchors the old persona got right and the new one gets wrong."""
    return sum(
        is_right(task, a) and not is_right(task, b)
        for a, b in zip(old.metric, new.metric, strict=True)
    )


def _reason(state: AlignState, end: str) -> str:
    if state.accepted:
        return f"{end}; {state.accepted} accepted"
    if not state.tried:
        return end
    best = max(state.tried, key=lambda one: one.verdict.gain)
    return f"{end}; the best candidate's {best.verdict.reason}"


def _summary(old: Scores, new: Scores, verdict: Verdict, tried: int) -> dict[str, float]:
    count = len(old.metric)
    summary = {
        "metric_before": sum(old.metric) / count,
        "metric_after": sum(new.metric) / count,
        "gain": verdict.gain,
        "margin": verdict.margin,
        "held_out": float(count),
        "tried": float(tried),
    }
    if old.loglik and new.loglik:
        summary["loglik_before"] = sum(old.loglik) / count
        summary["loglik_after"] = sum(new.loglik) / count
    return summary

"""The demo: an agent learns real people from their histories, judged on what they did next.

For some users of MovieLens-100K, in time order: remember the past, align, then predict the
ratings of the next films, and which of several next films was rated highest. Every arm sees the
same past and is judged on the same films; nothing about them was seen by anything before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from persona_agent.act import answer
from persona_agent.agent import PersonaAgent
from persona_agent.align import Alignment, AlignOptions
from persona_agent.drive import Ports, run_many
from persona_agent.eval import biases
from persona_agent.eval.movielens import RATING, MovieLens, Rating, interaction
from persona_agent.eval.statistics import Interval, clustered_mean, paired, share_worse
from persona_agent.llm.progress import ProgressLLM
from persona_agent.persona import Persona, PersonaLine
from persona_agent.ports import LLM
from persona_agent.predict import Job, RecallPlan, predict, relative, remember
from persona_agent.program import Program, Result
from persona_agent.prompts import text
from persona_agent.propose import miner, textual_gradient
from persona_agent.task import Prediction, Situation, Task, score, situation
from persona_agent.types import Record, Sampling, Scope, Usage

NEXT = 8
CHOICES = 4
MOST_QUESTIONS = 2
LEAST, MOST = 80, 300
BEST = Task("best-of-n", query_label="Films", outcome_label="Rated highest", item_name="film")
NO_MEMORY = "no memory"
STATISTICS = "own statistics (no model)"
BIASES = "user + item bias (no model)"
RECENT = "recent memories"
BEFORE = "persona before alignment"
AFTER = "persona after alignment"
ARMS = (NO_MEMORY, STATISTICS, BIASES, RECENT, BEFORE, AFTER)

Scored = dict[str, list[float]]
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings(Record):
    """What the demo does: how many users, which ones, and how they are aligned.

    With `prose` the model writes, too: a summary for the first version, and critiques of its own
    predictions (the textual gradient). Models as small as the embedded one write neither well.
    """

    users: int = 10
    seed: int = 0
    prose: bool = False
    options: AlignOptions = AlignOptions(rounds=1, held_out=10, plan=RecallPlan(recent=5))


@dataclass(frozen=True, slots=True)
class Case(Record):
    """One user: the past that is remembered, and the films that come next."""

    scope: Scope
    past: tuple[Rating, ...]
    next: tuple[Rating, ...]


@dataclass(frozen=True, slots=True)
class Question(Record):
    """Which of these films does the user rate highest? The one at `best` is the only such."""

    films: tuple[str, ...]
    best: int


@dataclass(frozen=True, slots=True)
class Row(Record):
    """One arm of the table. Gains are over the user's own statistics; higher is better."""

    arm: str
    mae: float
    mae_gain: Interval
    accuracy: float
    accuracy_gain: Interval
    worse: float


@dataclass(frozen=True, slots=True)
class Demo(Record):
    """All that the demo found.

    `mae_change` and `accuracy_change` compare the persona after alignment with that before it;
    `worse` is the share of users whose ratings it predicts worse. `errors` holds each user's mean
    absolute error by arm; `evidence` the text of the interactions that persona lines name.
    """

    settings: Settings
    rows: tuple[Row, ...]
    mae_change: Interval
    accuracy_change: Interval
    worse: float
    errors: Mapping[str, Mapping[str, float]]
    alignments: tuple[Alignment, ...]
    failures: tuple[str, ...]
    histories: Mapping[str, Sequence[Persona]]
    evidence: Mapping[str, str]
    question: str
    answers: Mapping[str, str]
    usage: Usage


def run_demo(data: MovieLens, llm: LLM, folder: Path, settings: Settings, tell: Tell) -> Demo:
    """Run the demo with a fresh database in `folder` and return what it found.

    `tell` is called with what is being done, and how much of it is done and due.
    """
    for leftover in folder.glob("demo.db*"):
        leftover.unlink()
    stage = _Stage(tell)
    agent = PersonaAgent.open(
        folder / "demo.db",
        llm=ProgressLLM(llm, stage.part),
        tenant="demo",
        task=RATING,
        options=settings.options,
        proposers=(miner, textual_gradient) if settings.prose else (miner,),
        summarise_history=settings.prose,
    )
    cases = choose(data, settings)
    with agent:
        for done, case in enumerate(cases):
            tell("remembering the past", done, len(cases))
            agent.add([interaction(data, rating, "demo") for rating in case.past])
        tell("remembering the past", len(cases), len(cases))
        stage.name = "aligning personas"
        results = agent.align([case.scope.user for case in cases])
        stage.name = "predicting what came next"
        judged = _judge(agent, data, cases, settings)
        stage.name = "answering a question"
        question, answers = _answers(agent, cases, results)
        histories = {case.scope.user: agent.persona(case.scope.user).history() for case in cases}
        evidence = _evidence(agent, histories)
    ratings, choices, usage = judged
    alignments = [result.unwrap() for result in results if result.ok]
    usage = sum((one.usage for one in alignments), usage)
    return Demo(
        settings=settings,
        rows=tuple(_row(arm, ratings, choices) for arm in ARMS),
        mae_change=clustered_mean(paired(ratings[AFTER], ratings[BEFORE])),
        accuracy_change=clustered_mean(paired(choices[AFTER], choices[BEFORE])),
        worse=share_worse(ratings[AFTER], ratings[BEFORE]),
        errors={arm: {u: -fmean(v) for u, v in by.items()} for arm, by in ratings.items()},
        alignments=tuple(alignments),
        failures=tuple(result.reason for result in results if not result.ok),
        histories=histories,
        evidence=evidence,
        question=question,
        answers=answers,
        usage=usage,
    )


class _Stage:
    """Names what the model is working on, for the progress bars."""

    def __init__(self, tell: Tell) -> None:
        self.name = ""
        self._tell = tell

    def part(self, done: int, due: int) -> None:
        self._tell(self.name, done, due)


def choose(data: MovieLens, settings: Settings) -> list[Case]:
    """Return users with long histories, drawn by the seed, each split at the last films.

    Raises ValueError if there are fewer such users than are wanted.
    """
    long = [user for user, ratings in data.ratings.items() if LEAST <= len(ratings) <= MOST]
    if not 1 <= settings.users <= len(long):
        raise ValueError(f"users is {settings.users}; {len(long)} have {LEAST} to {MOST} ratings")
    drawn = random.Random(settings.seed).sample(long, settings.users)
    return [
        Case(
            Scope(f"ml-{user}", "demo"),
            data.ratings[user][:-NEXT],
            data.ratings[user][-NEXT:],
        )
        for user in sorted(drawn, key=int)
    ]


def questions(case: Case) -> list[Question]:
    """Return groups of four of the next films, in time order, one of them rated highest.

    The best films are asked for, each among three that were rated lower; no film serves twice.
    At most two groups, for time.
    """
    asked: list[Question] = []
    left = list(case.next)
    while len(asked) < MOST_QUESTIONS:
        best = max(left, key=lambda rating: rating.value)  # of equals the first in time
        lower = [rating for rating in left if rating.value < best.value][: CHOICES - 1]
        if len(lower) < CHOICES - 1:
            break
        group = [rating for rating in left if rating is best or rating in lower]
        asked.append(Question(tuple(rating.film for rating in group), group.index(best)))
        left = [rating for rating in left if rating not in group]
    return asked


def _judge(
    agent: PersonaAgent, data: MovieLens, cases: Sequence[Case], settings: Settings
) -> tuple[dict[str, Scored], dict[str, Scored], Usage]:
    """Return each arm's rating scores and choice scores by user, and what the model cost."""
    ratings: dict[str, Scored] = {arm: {} for arm in ARMS}
    choices: dict[str, Scored] = {arm: {} for arm in ARMS}
    for case in cases:
        for arm, expect in _without_model(data, case).items():
            ratings[arm][case.scope.user] = [-abs(expect[r.film] - r.value) for r in case.next]
            choices[arm][case.scope.user] = [
                _pick([expect[film] for film in one.films], one.best) for one in questions(case)
            ]
    asked = [
        (case, arm, lines, plan)
        for case in cases
        for arm, (lines, plan) in _known(agent, case, settings).items()
    ]
    programs = [_predict_next(data, case, lines, plan) for case, _, lines, plan in asked]
    results = run_many(programs, Ports(agent.llm, agent.memory))
    base: dict[str, list[Prediction]] = {}
    for (case, arm, _, _), result in zip(asked, results, strict=True):
        user = case.scope.user
        rated, picked = result.unwrap()
        # What a model finds likely of anybody says nothing of this person: divide by it.
        if arm == NO_MEMORY:
            base[user] = picked
        else:
            picked = [relative(*pair, BEST) for pair in zip(picked, base[user], strict=True)]
        ratings[arm][user] = [
            score(RATING, prediction, str(rating.value))
            for prediction, rating in zip(rated, case.next, strict=True)
        ]
        choices[arm][user] = [
            score(BEST, prediction, prediction.options[one.best])
            for prediction, one in zip(picked, questions(case), strict=True)
        ]
    for case in cases:  # a persona that did not change predicts what it predicted before
        for scored in (ratings, choices):
            before = scored[BEFORE][case.scope.user]
            scored[AFTER].setdefault(case.scope.user, before)
    return ratings, choices, sum((result.usage for result in results), Usage())


def _known(
    agent: PersonaAgent, case: Case, settings: Settings
) -> dict[str, tuple[tuple[PersonaLine, ...], RecallPlan]]:
    """Return persona lines and memories of each arm that asks the model."""
    handle = agent.persona(case.scope.user)
    versions = handle.history() or [handle.current]
    plan = settings.options.plan
    arms: dict[str, tuple[tuple[PersonaLine, ...], RecallPlan]] = {
        NO_MEMORY: ((), RecallPlan(recent=0)),
        RECENT: ((), plan),
        BEFORE: (versions[0].lines, plan),
    }
    if len(versions) > 1:
        arms[AFTER] = (versions[-1].lines, plan)
    return arms


def _without_model(data: MovieLens, case: Case) -> dict[str, dict[str, float]]:
    """Return the ratings of the next films that arms without a model expect, by film."""
    own = [float(rating.value) for rating in case.past]
    mean = fmean(own)
    tastes: dict[str, list[float]] = {}
    for rating in case.past:
        for genre in data.films[rating.film].genres:
            tastes.setdefault(genre, []).append(rating.value - mean)
    others = biases.of_others(data, case.past[0].user, case.next[0].when)
    statistics, biased = {}, {}
    for rating in case.next:
        gaps = [
            sum(tastes.get(genre, ())) / (len(tastes.get(genre, ())) + biases.USER_PRIOR)
            for genre in data.films[rating.film].genres
        ]
        statistics[rating.film] = mean + (fmean(gaps) if gaps else 0.0)
        biased[rating.film] = others.predict(case.past, rating.film)
    return {STATISTICS: statistics, BIASES: biased}


def _pick(values: Sequence[float], best: int) -> float:
    """Return how right it is to take the highest value: 1 or 0, shared between equals."""
    top = [i for i, value in enumerate(values) if value == max(values)]
    return (best in top) / len(top)


def _predict_next(
    data: MovieLens, case: Case, lines: tuple[PersonaLine, ...], plan: RecallPlan
) -> Program[tuple[list[Prediction], list[Prediction]]]:
    """Return one arm's predictions of a user's next films: the ratings, and the choices."""
    block = [
        situation(interaction(data, rating, case.scope.tenant), RATING) for rating in case.next
    ]
    picks = [_choice(data, one) for one in questions(case)]
    memories = yield from remember(case.scope, plan, [*block, *picks], None)
    jobs = [Job(lines, known, one) for known, one in zip(memories, [*block, *picks], strict=True)]
    rated = yield from predict(jobs[: len(block)], RATING)
    picked = yield from predict(jobs[len(block) :], BEST)
    return rated, picked


def _choice(data: MovieLens, question: Question) -> Situation:
    films = [data.films[film] for film in question.films]
    return Situation("; ".join(film.text for film in films), tuple(film.name for film in films))


def _row(arm: str, ratings: Mapping[str, Scored], choices: Mapping[str, Scored]) -> Row:
    return Row(
        arm=arm,
        mae=-clustered_mean(ratings[arm]).mean,
        mae_gain=clustered_mean(paired(ratings[arm], ratings[STATISTICS])),
        accuracy=clustered_mean(choices[arm]).mean,
        accuracy_gain=clustered_mean(paired(choices[arm], choices[STATISTICS])),
        worse=share_worse(ratings[arm], ratings[STATISTICS]),
    )


def _answers(
    agent: PersonaAgent, cases: Sequence[Case], results: Sequence[Result[Alignment]]
) -> tuple[str, dict[str, str]]:
    """Ask one free question for one user, with the persona and without; return both answers.

    The user is the first whose persona changed, else the first.
    """
    changed = [r.unwrap().accepted for r in results if r.ok]
    user = cases[changed.index(True) if any(changed) else 0].scope.user
    question = text("demo", "question")
    persona = agent.persona(user).current
    nobody = Persona(persona.scope)
    sampling = Sampling(max_tokens=90)
    programs = [
        answer(question, known, plan=plan, sampling=sampling)
        for known, plan in ((nobody, RecallPlan(recent=0)), (persona, RecallPlan(recent=6)))
    ]
    without, with_persona = run_many(programs, Ports(agent.llm, agent.memory))
    return question, {
        "without": without.unwrap().text,
        f"with the persona of {user}": with_persona.unwrap().text,
    }


def _evidence(agent: PersonaAgent, histories: Mapping[str, Sequence[Persona]]) -> dict[str, str]:
    """Return the text of every interaction that a persona line names as evidence."""
    found = {}
    for user, versions in histories.items():
        wanted = {i for one in versions for line in one.lines for i in line.evidence}
        for one in agent.get_all(user_id=user):
            if one.id in wanted:
                found[one.id] = f"{one.query}: {one.outcome}"
    return found

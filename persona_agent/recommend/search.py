"""Search for a model's settings within a budget, by what validation says and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from persona_agent.errors import BackendError, Diverged, InputError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.evaluate import cut_of, evaluate
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.neural import Neural
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.spaces import Setting, Space, written
from persona_agent.recommend.splits import Holdout
from persona_agent.types import Record

M = TypeVar("M", bound=Recommender)
Study: TypeAlias = Any  # of optuna, which is optional


@dataclass(frozen=True, slots=True)
class Budget(Record):
    """How much a search may cost: so many trials, or so many seconds of fitting, or both.

    The trial that is under way when the seconds are over is finished. Compare models only when
    each had the same budget.
    """

    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials is None and self.seconds is None:
            raise ValueError("a budget needs trials, seconds, or both; it has neither")
        for name in ("trials", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")

    def is_spent(self, trials: int, seconds: float) -> bool:
        """Return whether so many trials in so many seconds leave nothing."""
        return (self.trials is not None and trials >= self.trials) or (
            self.seconds is not None and seconds >= self.seconds
        )


@dataclass(frozen=True, slots=True)
class Trial(Record):
    """Settings that were tried, numbered from 1, and validation's score.

    `score` is None for settings that do not train, and `failure` says why. `capped`: the most
    epochs allowed ended the training, which was still getting better.
    """

    number: int
    settings: Mapping[str, Setting]
    score: float | None
    seconds: float
    capped: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Found(Generic[M]):
    """The fitted model of the trial that validation liked best, and all trials in their order."""

    model: M
    best: Trial
    trials: tuple[Trial, ...]

    @property
    def capped(self) -> int:
        """How many trials the cap of epochs ended: if any, raise it before you compare models."""
        return sum(one.capped for one in self.trials)


def search(
    make: Callable[..., M],
    space: Space,
    interactions: Interactions,
    valid: Holdout,
    *,
    budget: Budget,
    graph: Graph | None = None,
    metric: str = "ndcg@10",
    seed: int = 0,
    storage: str | Path | None = None,
    name: str = "search",
    on_trial: Callable[[Trial], None] | None = None,
) -> Found[M]:
    """Return the best model of `make(**settings)` over `space` by `metric` on `valid`.

    Settings are proposed by Optuna's TPE, the first ten at random; the same arguments give the
    same trials. With `storage`, the path of an SQLite file, every trial is kept under `name` as it
    ends, and the same call later goes on as if it had never stopped: what was spent before counts
    towards the budget. One process may write to a `name` at a time. `on_trial` is called after
    each new trial. Settings with which training diverges cost their trial and end nothing.

    Raises InputError if `name` in `storage` is a search with other data, space, metric or seed,
    and Diverged if no settings trained.
    """
    cut = cut_of(metric)
    about = json.dumps(
        {
            "space": {key: one.to_json() for key, one in sorted(space.items())},
            "data": interactions.fingerprint(),
            "metric": metric,
            "seed": seed,
        }
    )
    made: dict[int, M] = {}  # the best model of this call, by the number of its trial
    with _study(storage, name, about) as study:
        trials = _trials(study)
        while not trials or not budget.is_spent(len(trials), sum(one.seconds for one in trials)):
            asked = _ask(study, space, seed, len(trials))
            begun = time.perf_counter()
            try:
                model = make(**asked.params).fit(interactions, graph, valid=valid)
                score = evaluate(model, valid, ks=(cut,)).mean(metric)
            except Diverged as error:
                _tell(study, asked, None, time.perf_counter() - begun, failure=str(error))
            else:
                capped = isinstance(model, Neural) and model.trained.capped
                _tell(study, asked, score, time.perf_counter() - begun, capped=capped)
                if score > max((one.score for one in trials if one.score is not None), default=-1):
                    made = {len(trials) + 1: model}
            trials = _trials(study)
            if on_trial is not None:
                on_trial(trials[-1])
    trained = [(one.score, -one.number) for one in trials if one.score is not None]
    if not trained:
        raise Diverged(f"none of {len(trials)} settings trained; the last: {trials[-1].failure}")
    best = trials[-max(trained)[1] - 1]  # of equal scores the first
    if best.number not in made:  # it was tried by an earlier call
        made[best.number] = make(**best.settings).fit(interactions, graph, valid=valid)
    return Found(made[best.number], best, trials)


@contextmanager
def _study(storage: str | Path | None, name: str, about: str) -> Iterator[Study]:
    """Yield the study of this name, new or as it was left."""
    try:
        import optuna
    except ImportError as error:
        raise BackendError("a search needs optuna; install the extra `recommend`") from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every study and trial
    try:
        study = optuna.create_study(
            storage=None if storage is None else f"sqlite:///{Path(storage).resolve()}",
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
        known = study.user_attrs.get("about")
        if known is None:
            study.set_user_attr("about", about)
        elif known != about:
            raise InputError(
                f"{storage} holds a search {name!r} with other data, space, metric or seed; "
                "give this one another name"
            )
        _drop_unfinished(study)
        yield study
    finally:
        optuna.logging.set_verbosity(before)


def _drop_unfinished(study: Study) -> None:
    """Mark what a process left when it was killed, so that the sampler takes no account of it."""
    from optuna.trial import TrialState

    for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(one.number, state=TrialState.FAIL)


def _ask(study: Study, space: Space, seed: int, done: int) -> Any:  # Any: a trial of optuna
    """Return the next trial: a function of the seed and of the trials before, of nothing else."""
    from optuna.samplers import TPESampler

    study.sampler = TPESampler(seed=1_000_003 * seed + done)
    return study.ask({name: written(one) for name, one in space.items()})


def _tell(
    study: Study,
    asked: Any,  # of optuna
    score: float | None,
    seconds: float,
    *,
    capped: bool = False,
    failure: str = "",
) -> None:
    from optuna.trial import TrialState

    asked.set_user_attr("seconds", seconds)
    asked.set_user_attr("capped", capped)
    if score is None:
        asked.set_user_attr("failure", failure)
        study.tell(asked, state=TrialState.FAIL)
    else:
        study.tell(asked, score)


def _trials(study: Study) -> tuple[Trial, ...]:
    """Return the trials that ended, in the order of their beginning."""
    from optuna.trial import TrialState

    ended = [
        one
        for one in study.get_trials(deepcopy=False)
        if one.state == TrialState.COMPLETE or "failure" in one.user_attrs
    ]
    return tuple(
        Trial(
            number,
            dict(one.params),
            one.value if one.state == TrialState.COMPLETE else None,
            one.user_attrs["seconds"],
            one.user_attrs["capped"],
            one.user_attrs.get("failure", ""),
        )
        for number, one in enumerate(ended, 1)
    )

"""The study whether relations and personas stack: run, killed and resumed fit by fit."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from persona_agent.errors import Diverged
from persona_agent.eval.stack.design import Arm, Design, Settings
from persona_agent.eval.stack.fit import Task, prepared, run
from persona_agent.eval.stack.store import Store, open_store
from persona_agent.types import Record


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """How far a study is: fits done of those due, those that were there before included."""

    done: int
    due: int
    last: str


def run_study(
    design: Design,
    folder: Path,
    data: Path | None,
    *,
    workers: int = 1,
    on_fit: Callable[[Progress], None] | None = None,
) -> Store:
    """Make every fit of the design that `folder` does not hold yet, and return its store.

    Each arm tries its candidates on the first split; the best on validation is fitted to every
    split and seed. Fits run in `workers` processes of one thread each; killed, the study goes on
    with the fits that are missing. Raises Diverged if all candidates of an arm diverge.
    """
    store = open_store(folder, design)
    arms = {arm.name: arm for arm in design.arms()}
    due = len(design.datasets) * sum(
        len(arm.candidates) + design.splits * design.seeds for arm in arms.values()
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        try:
            for tasks in _phases(design, arms, store):
                fits = {
                    pool.submit(run, one, arms[one.arm], design, data): one
                    for one in tasks
                    if store.find(one) is None
                }
                for future in as_completed(fits):
                    store.keep(*future.result())
                    if on_fit is not None:
                        task = fits[future]
                        name = f"{task.dataset} {task.arm} {task.name}"
                        on_fit(Progress(store.count(), due, name))
        finally:
            pool.shutdown(cancel_futures=True)
    return store


def timed(design: Design, data: Path | None) -> dict[str, float]:
    """Return the seconds that the study may take on one core, by data set, from a fit an arm.

    Each arm's first candidate is fitted once; nothing is kept.
    """
    found = {}
    for dataset in design.datasets:
        prepared(dataset, design.protocol, 0, data)
        total = 0.0
        for arm in design.arms():
            begun = time.perf_counter()
            run(Task(dataset, arm.name, arm.candidates[0], 0, 0, trial=0), arm, design, data)
            finals = design.splits * design.seeds
            total += (time.perf_counter() - begun) * (len(arm.candidates) + finals)
        found[dataset] = total
    return found


def _phases(design: Design, arms: Mapping[str, Arm], store: Store) -> Iterator[list[Task]]:
    """Yield for each data set its trials and, when those are done, its final fits."""
    for dataset in design.datasets:
        yield [task for arm in arms.values() for task in trials_of(dataset, arm)]
        yield [
            task
            for arm in arms.values()
            for task in finals_of(dataset, arm, design, chosen(store, dataset, arm))
        ]


def trials_of(dataset: str, arm: Arm) -> list[Task]:
    """Return the fits that choose an arm's settings, on the first split."""
    return [
        Task(dataset, arm.name, settings, 0, 0, number)
        for number, settings in enumerate(arm.candidates)
    ]


def finals_of(dataset: str, arm: Arm, design: Design, settings: Settings) -> list[Task]:
    """Return the fits of the chosen settings: every split with every seed."""
    return [
        Task(dataset, arm.name, settings, split, seed, None)
        for split in range(design.splits)
        for seed in range(design.seeds)
    ]


def chosen(store: Store, dataset: str, arm: Arm) -> Settings:
    """Return the candidate that did best on validation, of equals the first.

    Raises Diverged if none did at all.
    """
    fits = [store.get(one) for one in trials_of(dataset, arm)]
    scored = [(fit.score, -place) for place, fit in enumerate(fits) if fit.score is not None]
    if not scored:
        raise Diverged(f"all {len(fits)} candidates of {arm.name} diverge on {dataset}")
    return dict(fits[-max(scored)[1]].task.settings)


def _one_thread() -> None:
    """Make this process use one thread: two that share two cores wait for each other."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)

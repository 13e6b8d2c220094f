"""Run arms through the test's episodes, each kept when it is done, and train what learns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from persona_agent.errors import InputError
from persona_agent.eval.dialogue.arms import UNICORNS, Arm
from persona_agent.eval.dialogue.world import World
from persona_agent.files import replacing, write_whole
from persona_agent.recommend.dialogue.environment import Rules
from persona_agent.recommend.dialogue.policy import Policy
from persona_agent.recommend.dialogue.simulate import Outcomes, simulate
from persona_agent.recommend.dialogue.unicorn.policy import UnicornPolicy
from persona_agent.recommend.dialogue.unicorn.settings import VARIANTS, Unicorn
from persona_agent.recommend.dialogue.unicorn.training import Round, Training
from persona_agent.recommend.ids import IntArray
from persona_agent.types import Record

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Run(Record):
    """One arm with one seed, done: what it was, and how long it took."""

    arm: str
    seed: int
    about: str
    rules: Rules
    episodes: int
    seconds: float
    rounds: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """A run with how its episodes ended, and whose they were."""

    run: Run
    found: Outcomes
    user: IntArray


def run_study(
    world: World,
    arms: Sequence[Arm],
    learners: Sequence[str],
    folder: Path,
    *,
    seeds: int,
    rounds: int,
    tell: Callable[[str, int, int], None],
) -> None:
    """Run what `folder` does not hold yet; `tell` gets what is under way, how much, and of how much.

    `learners` are UNICORN's arms, which train up to `rounds` first.
    """
    for seed in range(seeds):
        for arm in arms:
            run_arm(world, arm, seed, folder, partial(tell, f"{arm.name}, seed {seed}"))
        for name in learners:
            title = f"{name}, seed {seed}"

            def on_round(one: Round, title: str = title) -> None:
                tell(f"{title}: found {one.success:.0%}", one.number, rounds)

            training = train_unicorn(world, name, seed, folder, rounds, on_round=on_round)
            run_unicorn(world, training, name, seed, folder, partial(tell, title))


def run_arm(
    world: World, arm: Arm, seed: int, folder: Path, on_done: Callable[[int, int], None]
) -> Done:
    """Return an arm's run, from `folder` if it is there; `on_done` gets episodes done and due."""
    there = find(folder, arm.name, seed)
    if there is not None:
        _same(there.run, arm.rules, len(world.test(seed)), folder)
        return there
    policy = arm.make(world, seed)
    return _play(world, policy, Run(arm.name, seed, arm.about, arm.rules, 0, 0), folder, on_done)


def train_unicorn(
    world: World,
    name: str,
    seed: int,
    folder: Path,
    rounds: int,
    *,
    every: int = 5,
    on_round: Callable[[Round], None] | None = None,
) -> Training:
    """Return a training of so many rounds in all; it goes on from `folder`, saved each `every`."""
    training = _training(world, name, seed)
    home = _home(folder, name, seed)
    if (home / "training.json").exists():
        training.restore(home)
    while len(training.rounds) < rounds:
        due = min(rounds, len(training.rounds) // every * every + every)
        training.run(world.data.valid, due, on_round=on_round)
        training.save(home)
    return training


def run_unicorn(
    world: World,
    training: Training,
    name: str,
    seed: int,
    folder: Path,
    on_done: Callable[[int, int], None],
) -> Done:
    """Return the run of a trained policy; one of fewer rounds is done again."""
    there = find(folder, name, seed)
    rounds = len(training.rounds)
    if there is not None and there.run.rounds == rounds:
        _same(there.run, training.rules, len(world.test(seed)), folder)
        return there
    about = f"UNICORN as {name.removeprefix('unicorn-')}, {rounds} rounds; TransE"
    policy = UnicornPolicy(training.learner, training.scores)
    run = Run(name, seed, about, training.rules, 0, 0, rounds)
    return _play(world, policy, run, folder, on_done)


def find(folder: Path, arm: str, seed: int) -> Done | None:
    """Return a run that is finished, None if there is none."""
    path = _path(folder, arm, seed)
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if told.pop("format") != FORMAT:
        raise InputError(f"{path} is of another version; give the study another folder")
    run = Run(**{**told, "rules": Rules(**told["rules"])})
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as kept:
        found = Outcomes(kept["turn"], kept["rank"], kept["asked"], kept["reward"])
        return Done(run, found, kept["user"])


def finished(folder: Path) -> list[Done]:
    """Return all finished runs, by arm and seed."""
    paths = sorted((folder / "runs").glob("*/*.json"))
    found = [find(folder, path.parent.name, int(path.stem)) for path in paths]
    return [one for one in found if one is not None]


def curve(folder: Path, arm: str, seed: int) -> list[Round]:
    """Return the rounds of a training that is under way or done, none if it never began."""
    path = _home(folder, arm, seed) / "training.json"
    if not path.exists():
        return []
    return [Round(**one) for one in json.loads(path.read_bytes())["rounds"]]


def _training(world: World, name: str, seed: int) -> Training:
    variants = dict(zip(UNICORNS, VARIANTS, strict=True))
    scores = world.vectors(seed)
    return Training(scores, Rules(), Unicorn(variant=variants[name], seed=seed))


def _play(
    world: World, policy: Policy, run: Run, folder: Path, on_done: Callable[[int, int], None]
) -> Done:
    episodes = world.test(run.seed)
    begun = time.perf_counter()
    found = simulate(
        world.data.table,
        policy,
        episodes,
        run.rules,
        on_done=lambda done: on_done(done, len(episodes)),
    )
    seconds = time.perf_counter() - begun
    done = Run(
        run.arm, run.seed, run.about, run.rules, len(episodes), round(seconds, 2), run.rounds
    )
    path = _path(folder, run.arm, run.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: getattr(found, name) for name in ("turn", "rank", "asked", "reward")}
    with replacing(path.with_suffix(".npz")) as beside, beside.open("wb") as out:
        np.savez_compressed(out, user=episodes.user, **columns)
    write_whole(path, json.dumps({"format": FORMAT, **_json(done)}))
    return Done(done, found, episodes.user)


def _json(run: Run) -> dict[str, object]:
    told = run.to_json()
    if not isinstance(told, dict):
        raise TypeError(f"a run is a {type(told).__name__} in JSON; an object is due")
    return dict(told)


def _same(run: Run, rules: Rules, episodes: int, folder: Path) -> None:
    if run.rules != rules or run.episodes != episodes:
        raise InputError(
            f"{folder} holds {run.arm} with {run.episodes} episodes by {run.rules}; here it is "
            f"{episodes} by {rules}; give the study another folder"
        )


def _path(folder: Path, arm: str, seed: int) -> Path:
    return folder / "runs" / arm / f"{seed}.json"


def _home(folder: Path, arm: str, seed: int) -> Path:
    return folder / "training" / f"{arm}-{seed}"


def names(done: Sequence[Done]) -> list[str]:
    """Return the arms there are, each once, in order."""
    return list(dict.fromkeys(one.run.arm for one in done))

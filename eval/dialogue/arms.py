"""What is compared: each arm is a policy with what it knows, and the users it meets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from persona_agent.errors import InputError
from persona_agent.eval.dialogue.world import OPENING, World
from persona_agent.recommend.dialogue.entropy import EntropyPolicy
from persona_agent.recommend.dialogue.enumerated import EnumeratedPolicy
from persona_agent.recommend.dialogue.environment import Rules
from persona_agent.recommend.dialogue.path_reasoning import PathPolicy, learn_worth
from persona_agent.recommend.dialogue.policy import Policy
from persona_agent.recommend.dialogue.uncertainty import UncertaintyPolicy

WRONG = (0.05, 0.1, 0.2)
WARM = ("item-knn", "ease", "lightgcn", "amp-cf")
UNICORNS = ("unicorn-paper", "unicorn-released")


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the table: how its policy is made for a world and a seed, and its rules."""

    name: str
    make: Callable[[World, int], Policy]
    rules: Rules
    about: str


def arms() -> dict[str, Arm]:
    """Return all arms that need no training of their own, by name, in the order of the table."""
    found = [
        _entropy("entropy", "random", "maximum entropy; random vectors"),
        _entropy("entropy", "transe", "maximum entropy; TransE"),
        _entropy("entropy", "few-tags", "maximum entropy; items of few tags first"),
        _entropy("entropy-chance", "random", "the same, shows by chance; random vectors"),
        _entropy("entropy-chance", "transe", "the same, shows by chance; TransE"),
        _entropy("weighted", "transe", "weighted entropy; TransE"),
        Arm("enumerated-transe", _enumerated, Rules(), "five tags of a kind at once; TransE"),
        Arm("path-transe", _path, Rules(), "SCPR-like: learned when to show; TransE"),
        _uncertainty("flat", "halves the belief; nothing known of the user"),
        _uncertainty("popular", "the same; popularity"),
        *(_uncertainty(one, f"the same; history by {one}") for one in WARM),
        _uncertainty("few-tags", "the same; knows how the simulator opens"),
        _uncertainty(f"ease{OPENING}", "the same; and history by ease"),
    ]
    for wrong in WRONG:
        percent = f"{round(100 * wrong):02}"
        found += [
            _erring("entropy", wrong, percent, "maximum entropy, TransE"),
            _erring("trusting", wrong, percent, "halves the belief, believes all"),
            _erring("doubting", wrong, percent, "halves the belief, knows that users err"),
        ]
    return {one.name: one for one in found}


def chosen(names: tuple[str, ...]) -> list[Arm]:
    """Return the arms of these names, all for none; raises InputError for an unknown one."""
    known = arms()
    unknown = [one for one in names if one not in known and one not in UNICORNS]
    if unknown:
        raise InputError(
            f"there is no arm {unknown[0]!r}; there are {', '.join((*known, *UNICORNS))}"
        )
    return [one for name, one in known.items() if not names or name in names]


def _entropy(kind: str, scores: str, about: str) -> Arm:
    def make(world: World, seed: int) -> Policy:
        return EntropyPolicy(
            world.data.table,
            world.scores(scores, seed),
            weighted=kind == "weighted",
            when="chance" if kind == "entropy-chance" else "few",
        )

    return Arm(f"{kind}-{scores}", make, Rules(), about)


def _uncertainty(scores: str, about: str) -> Arm:
    def make(world: World, seed: int) -> Policy:
        sharpness = world.sharpness(scores, seed)
        return UncertaintyPolicy(world.data.table, world.scores(scores, seed), sharpness=sharpness)

    return Arm(f"uncertainty-{scores}", make, Rules(), about)


def _erring(kind: str, wrong: float, percent: str, about: str) -> Arm:
    def make(world: World, seed: int) -> Policy:
        if kind == "entropy":
            return EntropyPolicy(world.data.table, world.scores("transe", seed))
        doubt = wrong if kind == "doubting" else 0.0
        return UncertaintyPolicy(world.data.table, world.scores("flat", seed), wrong=doubt)

    rules = Rules(wrong=wrong, narrow=kind == "entropy")
    return Arm(f"{kind}-wrong-{percent}", make, rules, f"{about}; {wrong:.0%} of answers wrong")


def _enumerated(world: World, seed: int) -> Policy:
    return EnumeratedPolicy(world.data.table, world.scores("transe", seed))


def _path(world: World, seed: int) -> Policy:
    scores = world.scores("transe", seed)
    worth = learn_worth(world.data.table, scores, Rules(), world.data.valid, seed=seed)
    return PathPolicy(world.data.table, scores, worth)

"""How many simulated dialogues a second, beside a plain loop that gives the same."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from persona_agent.errors import PersonaAgentError
from persona_agent.eval.bench.dialogue_loop import play
from persona_agent.recommend.dialogue import environment, lastfm_star
from persona_agent.recommend.dialogue.entropy import EntropyPolicy
from persona_agent.recommend.dialogue.environment import Episodes, Rules
from persona_agent.recommend.dialogue.scores import FixedScores, by_recommender
from persona_agent.recommend.dialogue.simulate import Outcomes, simulate
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.knn import ItemKNN

BATCH = 2000
LOOPED = 150  # episodes that the plain loop plays


def measure(data: Path, *, quick: bool = False) -> dict[str, float]:
    """Return the figures of `persona-agent bench dialogue`, on Last.FM* in the folder of all data.

    Maximum entropy, lists by item-kNN of the training part. Both ways play the same episodes of
    the loop's part; raises PersonaAgentError unless they agree in every one.
    """
    world = lastfm_star.read(data / "crs-lastfm-star")
    table = world.table
    histories = world.train.histories()
    scores = by_recommender(ItemKNN().fit(world.train), histories, table)
    episodes = environment.every(table, world.test)
    if quick:
        episodes = episodes.take(np.linspace(0, len(episodes) - 1, 3000).astype(np.int64))
    policy, rules = EntropyPolicy(table, scores), Rules()
    simulate(table, policy, episodes.take(slice(0, 50)), rules)  # what is loaded at first use
    begun = time.perf_counter()
    found = simulate(table, policy, episodes, rules, batch=BATCH)
    fast = len(episodes) / (time.perf_counter() - begun)
    some = np.linspace(0, len(episodes) - 1, 40 if quick else LOOPED).astype(np.int64)
    has, had_by = as_sets(table)
    begun = time.perf_counter()
    looped = loop(has, had_by, scores, episodes.take(some), rules)
    slow = len(some) / (time.perf_counter() - begun)
    for name in ("turn", "rank", "asked"):
        if not np.array_equal(getattr(looped, name), getattr(found, name)[some]):
            raise PersonaAgentError(
                f"the loop and the batch differ in {name}; one of them is wrong"
            )
    return {
        "episodes": len(episodes),
        "episodes_per_s": fast,
        "loop_episodes_per_s": slow,
        "speedup_vs_loop": fast / slow,
        "max_entropy_sr15": float((found.turn > 0).mean()),
        "max_entropy_turns": float(np.where(found.turn > 0, found.turn, rules.turns).mean()),
    }


def as_sets(
    table: AttributeTable,
) -> tuple[list[frozenset[int]], dict[int, frozenset[int]]]:
    """Return the attributes of each item and the items of each attribute."""
    has = [frozenset(table.attributes_of(one).tolist()) for one in range(len(table))]
    had_by = {
        one: frozenset(table.items_with(one).tolist()) for one in range(len(table.attributes))
    }
    return has, had_by


def loop(
    has: list[frozenset[int]],
    had_by: dict[int, frozenset[int]],
    scores: FixedScores,
    episodes: Episodes,
    rules: Rules,
) -> Outcomes:
    """Return how the plain loop plays these episodes."""
    rows = [
        play(has, had_by, scores.scores[user].tolist(), target, opening, rules)
        for user, target, opening in zip(
            episodes.user.tolist(), episodes.target.tolist(), episodes.opening.tolist(), strict=True
        )
    ]
    turn, rank, asked, reward = (np.array(column) for column in zip(*rows, strict=True))
    return Outcomes(turn, rank, asked, reward.astype(np.float32))

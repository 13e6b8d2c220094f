"""The batched simulator against a plain loop, and laws of what it does."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from persona_agent.eval.bench.dialogue import as_sets, loop
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue import environment, even, lastfm_star, state
from persona_agent.recommend.dialogue.entropy import EntropyPolicy
from persona_agent.recommend.dialogue.enumerated import EnumeratedPolicy
from persona_agent.recommend.dialogue.environment import Actions, Rules
from persona_agent.recommend.dialogue.path_reasoning import PathPolicy, learn_worth
from persona_agent.recommend.dialogue.policy import Policy
from persona_agent.recommend.dialogue.scores import FixedScores, SharedScores
from persona_agent.recommend.dialogue.simulate import Outcomes, simulate
from persona_agent.recommend.dialogue.state import NONE
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.dialogue.uncertainty import UncertaintyPolicy
from persona_agent.recommend.dialogue.vectors import at_random

FOLDER = Path(os.environ.get("PERSONA_AGENT_DATA") or "nowhere") / "crs-lastfm-star"
SHORT = Rules(turns=6, shown=3)


def some_scores(users: int, items: int, seed: int = 0) -> FixedScores:
    return FixedScores(np.random.default_rng(seed).random((users, items)).astype(np.float32))


def assert_same(one: Outcomes, other: Outcomes) -> None:
    for name in ("turn", "rank", "asked"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.reward, other.reward, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_batch_gives_what_a_plain_loop_gives(
    table: AttributeTable, wanted: Interactions, seed: int
) -> None:
    scores = some_scores(len(wanted.users), len(table), seed)
    episodes = environment.every(table, wanted, seed=seed)
    found = simulate(table, EntropyPolicy(table, scores, shown=3), episodes, SHORT, batch=7)
    assert_same(found, loop(*as_sets(table), scores, episodes, SHORT))
    assert 0 < (found.turn > 0).mean() < 1  # some find it and some do not: both are compared


@pytest.mark.real("data")
@pytest.mark.skipif(not FOLDER.is_dir(), reason="PERSONA_AGENT_DATA names no folder of data")
def test_both_agree_on_last_fm_star() -> None:
    world = lastfm_star.read(FOLDER)
    scores = some_scores(len(world.test.users), len(world.table))
    every = environment.every(world.table, world.test)
    episodes = every.take(np.linspace(0, len(every) - 1, 30).astype(np.int64))
    found = simulate(world.table, EntropyPolicy(world.table, scores), episodes, Rules())
    assert_same(found, loop(*as_sets(world.table), scores, episodes, Rules()))


def policies(table: AttributeTable, wanted: Interactions) -> dict[str, Policy]:
    scores = some_scores(len(wanted.users), len(table))
    vectors = at_random(table, len(wanted.users), width=4)
    worth = np.random.default_rng(3).random((SHORT.turns, 14, 2)).astype(np.float32)
    return {
        "entropy": EntropyPolicy(table, scores, shown=3),
        "by chance": EntropyPolicy(table, vectors, when="chance", shown=3),
        "weighted": EntropyPolicy(table, vectors, weighted=True, shown=3),
        "enumerated": EnumeratedPolicy(table, scores, listed=3, shown=3),
        "uncertainty": UncertaintyPolicy(table, scores, shown=3),
        "doubting": UncertaintyPolicy(table, vectors, wrong=0.1, shown=3),
        "path": PathPolicy(table, vectors, worth, shown=3),
    }


NAMES = ("entropy", "by chance", "weighted", "enumerated", "uncertainty", "doubting", "path")


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_map_of_singles_in_any_order(
    table: AttributeTable, wanted: Interactions, name: str
) -> None:
    policy = policies(table, wanted)[name]
    rules = dataclasses.replace(SHORT, wrong=0.1)
    episodes = environment.every(table, wanted)
    together = simulate(table, policy, episodes, rules)
    assert_same(simulate(table, policy, episodes, rules, batch=1), together)
    order = np.random.default_rng(0).permutation(len(episodes))
    mixed = simulate(table, policy, episodes.take(order), rules)
    np.testing.assert_array_equal(mixed.turn, together.turn[order])


@pytest.mark.parametrize("name", NAMES)
def test_outcomes_keep_the_rules(table: AttributeTable, wanted: Interactions, name: str) -> None:
    policy = policies(table, wanted)[name]
    found = simulate(table, policy, environment.every(table, wanted), SHORT)
    assert found.turn.max() <= SHORT.turns
    assert found.rank.max() <= SHORT.shown
    np.testing.assert_array_equal(found.turn > 0, found.rank > 0)
    assert (found.asked < SHORT.turns).all()
    hit = found.turn > 0
    shown = found.turn[hit] - found.asked[hit]  # lists, the last of which was right
    assert (shown >= 1).all()
    most = SHORT.found + found.asked[hit] * SHORT.accepted + (shown - 1) * SHORT.not_found
    assert (found.reward[hit] <= most + 1e-5).all()


def test_wrong_answers_are_wrong_as_often_as_said_and_the_same_for_all(
    table: AttributeTable, wanted: Interactions
) -> None:
    rules = Rules(wrong=0.2)
    episodes = environment.every(table, wanted)
    ask = np.broadcast_to(np.arange(len(table.attributes)), (len(episodes), 14))
    said = environment.replies(table, rules, episodes, ask)
    true = environment.replies(table, Rules(), episodes, ask)
    assert 0.15 < (said != true).mean() < 0.25
    turned = environment.replies(table, rules, episodes, ask[:, ::-1])
    np.testing.assert_array_equal(turned[:, ::-1], said)
    has = table.has.toarray() > 0
    np.testing.assert_array_equal(true == state.ACCEPTED, has[episodes.target])


def test_openings_are_attributes_of_the_target(table: AttributeTable, wanted: Interactions) -> None:
    for episodes in (
        environment.every(table, wanted, seed=4),
        environment.drawn(table, wanted, 500, np.random.default_rng(0)),
    ):
        assert environment.holds(table, episodes.target, episodes.opening).all()
    pairs = set(zip(wanted.user.tolist(), wanted.item.tolist(), strict=True))
    assert set(zip(episodes.user.tolist(), episodes.target.tolist(), strict=True)) <= pairs
    shares = np.bincount(episodes.user, minlength=len(wanted.users)) / len(episodes)
    assert (abs(shares - 1 / len(wanted.users)) < 0.06).all()


def test_each_action_is_worth_what_the_rules_say(
    table: AttributeTable, wanted: Interactions
) -> None:
    rules = Rules(shown=2)
    episodes = environment.every(table, wanted).take(np.arange(5))
    has = table.has.toarray() > 0
    wants = episodes.target
    other = [next(i for i in range(len(table)) if i != one) for one in wants]
    lacking = [int(np.flatnonzero(~has[one])[0]) for one in wants]
    owned = [int(np.flatnonzero(has[one])[0]) for one in wants]
    ask = np.array([[owned[0]], [lacking[1]], [NONE], [NONE], [NONE]])
    show = np.array([[NONE] * 2, [NONE] * 2, [other[2], wants[2]], [other[3], NONE], [NONE] * 2])
    done = environment.step(
        table, rules, episodes, environment.begin(table, episodes), Actions(ask, show)
    )
    np.testing.assert_allclose(done.reward, [0.01, -0.1, 1, -0.1, -0.1], atol=1e-6)
    assert done.rank.tolist() == [0, 0, 2, 0, 0]
    assert done.over.tolist() == [False, False, True, False, True]
    assert done.beliefs.refused[[3]].indices.tolist() == [other[3]]
    assert done.beliefs.answers[0, owned[0]] == state.ACCEPTED
    assert done.beliefs.answers[1, lacking[1]] == state.REJECTED


def test_doubt_pays_where_users_err(table: AttributeTable, wanted: Interactions) -> None:
    flat = SharedScores(np.zeros(len(table), np.float32))
    rules = Rules(turns=12, shown=2, wrong=0.2, narrow=False)
    episodes = environment.drawn(table, wanted, 1500, np.random.default_rng(1))
    rates = [
        (
            simulate(table, UncertaintyPolicy(table, flat, wrong=w, shown=2), episodes, rules).turn
            > 0
        )
        for w in (0.0, 0.2)
    ]
    assert rates[1].mean() > rates[0].mean() + 0.02


def test_trial_finds_when_showing_pays(table: AttributeTable, wanted: Interactions) -> None:
    scores = some_scores(len(wanted.users), len(table))
    start = np.zeros((SHORT.turns, 14, 2), np.float32)
    learned = learn_worth(table, scores, SHORT, wanted, rounds=8, episodes=200)
    episodes = environment.every(table, wanted, seed=9)
    rewards = [
        simulate(table, PathPolicy(table, scores, worth, shown=3), episodes, SHORT).reward.mean()
        for worth in (start + np.array([1.0, 0.0], np.float32), learned)
    ]
    assert rewards[1] > rewards[0]
    again = learn_worth(table, scores, SHORT, wanted, rounds=8, episodes=200)
    np.testing.assert_array_equal(again, learned)


def test_settings_that_cannot_be_are_refused(table: AttributeTable) -> None:
    flat = SharedScores(np.zeros(len(table), np.float32))
    with pytest.raises(ValueError, match=r"wrong is 0.5"):
        Rules(wrong=0.5)
    with pytest.raises(ValueError, match="turns is 0"):
        Rules(turns=0)
    with pytest.raises(ValueError, match="when is 'never'"):
        EntropyPolicy(table, flat, when="never")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="eagerness is 0"):
        UncertaintyPolicy(table, flat, eagerness=0)


@pytest.mark.parametrize("listed", [1, 3])
def test_remembered_questions_are_those_worked_out_anew(
    table: AttributeTable, wanted: Interactions, listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even, "LISTED", listed)  # so short that it is used up
    scores = some_scores(len(wanted.users), len(table))
    policy = EntropyPolicy(table, scores, shown=3)
    episodes = environment.every(table, wanted)
    for _ in range(2):
        found = simulate(table, policy, episodes, SHORT)
        assert_same(found, loop(*as_sets(table), scores, episodes, SHORT))


def test_the_page_prints_what_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "dialogue.md").read_text(encoding="utf-8")
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (printed, "")

"""The dialogue as a Gymnasium environment."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue.environment import Rules
from persona_agent.recommend.dialogue.scores import SharedScores
from persona_agent.recommend.dialogue.table import AttributeTable

pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env

from persona_agent.recommend.dialogue.gym import DialogueEnv, DialogueVectorEnv

RULES = Rules(turns=5, shown=3)


@pytest.fixture(scope="module")
def flat(table: AttributeTable) -> SharedScores:
    return SharedScores(np.zeros(len(table), np.float32))


def test_gymnasium_finds_nothing_wrong(
    table: AttributeTable, flat: SharedScores, wanted: Interactions
) -> None:
    check_env(DialogueEnv(table, flat, wanted, RULES, offered=4), skip_render_check=True)


def test_a_seed_gives_the_same_dialogue_and_text_tells_it(
    table: AttributeTable, flat: SharedScores, wanted: Interactions
) -> None:
    env = DialogueEnv(table, flat, wanted, RULES, offered=4, render_mode="ansi")
    told = []
    for _ in range(2):
        env.reset(seed=3)
        for action in (1, 2, 0, 0, 0):
            *_, over, _, _ = env.step(action)
            if over:
                break
        told.append(env.render())
    assert told[0] == told[1]
    assert told[0] is not None
    assert told[0].splitlines()[1].startswith("system: a")


def test_dialogues_side_by_side_begin_anew_when_they_end(
    table: AttributeTable, flat: SharedScores, wanted: Interactions
) -> None:
    env = DialogueVectorEnv(table, flat, wanted, RULES, dialogues=8, offered=4)
    observed, info = env.reset(seed=0)
    assert observed in env.observation_space
    rng = np.random.default_rng(0)
    before = np.zeros(8, bool)
    ended = 0
    for _ in range(40):
        mask = info["action_mask"]
        action = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
        observed, reward, over, cut, info = env.step(action)
        assert observed in env.observation_space
        assert not cut.any()
        assert (reward[before] == 0).all()
        assert (observed[before, 0] == 0).all()
        assert not (over & before).any()
        ended += int(over.sum())
        before = over
    assert ended > 20


def test_always_showing_finds_what_the_first_lists_hold(
    table: AttributeTable, flat: SharedScores, wanted: Interactions
) -> None:
    env = DialogueVectorEnv(table, flat, wanted, Rules(turns=5, shown=60), dialogues=6, offered=4)
    env.reset(seed=1)
    _, reward, over, _, _ = env.step(np.zeros(6, np.int64))
    assert reward.tolist() == [1] * 6
    assert over.all()


def test_actions_that_are_none_are_refused(
    table: AttributeTable, flat: SharedScores, wanted: Interactions
) -> None:
    env = DialogueVectorEnv(table, flat, wanted, RULES, dialogues=2, offered=4)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"actions are \[0, 5\]; 2 of 0 to 4 are due"):
        env.step(np.array([0, 5]))
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        DialogueEnv(table, flat, wanted, render_mode="human")

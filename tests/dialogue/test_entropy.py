"""Entropy, scores and uncertainty against naive versions; metrics by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from persona_agent.eval.dialogue.metrics import hierarchical_dcg, success, turns
from persona_agent.recommend.data import Interactions, binary
from persona_agent.recommend.dialogue import environment, scores, state
from persona_agent.recommend.dialogue.entries import row_of
from persona_agent.recommend.dialogue.entropy import EntropyPolicy, entropy, masses
from persona_agent.recommend.dialogue.enumerated import EnumeratedPolicy
from persona_agent.recommend.dialogue.leading import leading
from persona_agent.recommend.dialogue.policy import Situation
from persona_agent.recommend.dialogue.simulate import Outcomes
from persona_agent.recommend.dialogue.state import ACCEPTED, NONE, REJECTED, UNASKED
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.dialogue.uncertainty import UncertaintyPolicy
from persona_agent.recommend.dialogue.vectors import at_random
from persona_agent.recommend.popular import Popularity


def bits(share: float) -> float:
    return (
        0.0 if share in (0, 1) else -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    )


def later(table: AttributeTable, wanted: Interactions, *, drop: bool = False) -> Situation:
    """Return dialogues in which some attributes were accepted and some rejected."""
    episodes = environment.every(table, wanted)
    beliefs = environment.begin(table, episodes)
    rng = np.random.default_rng(0)
    for _ in range(3):
        ask = rng.integers(0, len(table.attributes), (len(episodes), 1))
        said = environment.replies(table, environment.Rules(), episodes, ask)
        beliefs = state.answer(table, beliefs, ask, said, drop_rejected=drop)
    return Situation(beliefs, episodes.user, episodes.number, 5)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_question_has_the_largest_entropy(
    table: AttributeTable, wanted: Interactions, weighted: bool
) -> None:
    now = later(table, wanted)
    vectors = at_random(table, len(wanted.users), width=5)
    chosen = EntropyPolicy(table, vectors, weighted=weighted).question(now)
    has = table.has.toarray() > 0
    felt = vectors.at(now.beliefs, now.users)
    for row in range(len(now)):
        items = now.beliefs.possible(row)
        own = felt[row_of(now.beliefs.candidates) == row]
        weight = 1 / (1 + np.exp(-own)) if weighted else np.ones(len(items))
        value = {
            one: bits(float(weight[has[items, one]].sum() / weight.sum()))
            for one in range(len(table.attributes))
            if now.beliefs.answers[row, one] == UNASKED and 0 < has[items, one].sum() < len(items)
        }
        if not value:
            assert chosen[row] == NONE
        else:
            assert value[int(chosen[row])] == pytest.approx(max(value.values()), abs=1e-5)


def test_vector_scores_are_the_formula(table: AttributeTable, wanted: Interactions) -> None:
    now = later(table, wanted)
    one = at_random(table, len(wanted.users), width=5)
    has = table.has.toarray() > 0
    found = one.at(now.beliefs, now.users)
    rows = row_of(now.beliefs.candidates)
    for entry in range(0, len(found), 7):
        row, item = rows[entry], now.beliefs.candidates.indices[entry]
        due = one.users[now.users[row]] @ one.items[item]
        for attribute, answer in enumerate(now.beliefs.answers[row]):
            product = float(one.items[item] @ one.attributes[attribute])
            if answer == ACCEPTED:
                due += product
            if answer == REJECTED and has[item, attribute]:
                due -= 1 / (1 + math.exp(-product))
        assert found[entry] == pytest.approx(due, abs=1e-4)


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_chances_are_bayes(table: AttributeTable, wanted: Interactions, wrong: float) -> None:
    now = later(table, wanted)
    rng = np.random.default_rng(1)
    fixed = scores.FixedScores(
        rng.standard_normal((len(wanted.users), len(table))).astype(np.float32)
    )
    policy = UncertaintyPolicy(table, fixed, sharpness=2.0, wrong=wrong)
    beliefs, chances = policy.chances(now)
    against = state.mismatches(table, now.beliefs.said)
    dense = np.zeros(against.shape)
    dense[row_of(beliefs.candidates), beliefs.candidates.indices] = chances
    for row in range(len(now)):
        due = np.zeros(len(table))
        for item in now.beliefs.possible(row):
            prior = math.exp(2 * fixed.scores[now.users[row], item])
            misses = int(against[row, item])
            due[item] = prior * (
                wrong**misses * (1 - wrong) ** (4 - misses) if wrong else misses == 0
            )
        if due.sum():
            np.testing.assert_allclose(dense[row], due / due.sum(), atol=1e-5)


def test_answers_that_contradict_each_other_leave_all_candidates(table: AttributeTable) -> None:
    beliefs = state.begin(table)
    every = np.arange(len(table.attributes))[None]
    beliefs = state.answer(table, beliefs, every, np.full(every.shape, REJECTED, np.int8))
    now = Situation(beliefs, np.zeros(1, np.int64), np.zeros(1, np.int64), 3)
    flat = scores.SharedScores(np.zeros(len(table), np.float32))
    left, chances = UncertaintyPolicy(table, flat).chances(now)
    assert left.sizes().tolist() == [len(table)]
    np.testing.assert_allclose(chances, 1 / len(table), rtol=1e-5)


def test_it_asks_until_a_list_tells_as_much(table: AttributeTable, wanted: Interactions) -> None:
    now = later(table, wanted)
    flat = scores.SharedScores(np.zeros(len(table), np.float32))
    policy = UncertaintyPolicy(table, flat, shown=2)
    actions = policy.act(now)
    beliefs, chances = policy.chances(now)
    mass, _ = masses(table, beliefs, chances)
    for row in range(len(now)):
        own = mass.data[row_of(mass) == row]
        even = min(abs(own - 0.5)) if len(own) else 0.5
        hit = min(2 / len(beliefs.possible(row)), 1)
        if abs(hit - (0.5 - even)) > 1e-5:
            assert actions.asks[row] == (hit < 0.5 - even)


def test_an_enumerated_question_is_of_one_kind(table: AttributeTable, wanted: Interactions) -> None:
    now = later(table, wanted)
    flat = scores.SharedScores(np.zeros(len(table), np.float32))
    asked = EnumeratedPolicy(table, flat, listed=3).question(now)
    kinds = table.kinds_of.toarray().argmax(axis=1)
    for row in asked:
        assert len({int(kinds[one]) for one in row if one != NONE}) <= 1
    assert (asked != NONE).sum(axis=1).max() == 3


def test_leading_sorts_by_value_then_column() -> None:
    matrix = binary(np.array([0, 0, 0, 2, 2]), np.array([4, 1, 3, 0, 2]), (3, 5))
    values = np.array([5.0, 7.0, 7.0, 1.0, 2.0])  # of columns 1, 3, 4 and 0, 2
    assert leading(matrix, values, 2).tolist() == [[3, 4], [NONE, NONE], [2, 0]]
    assert leading(matrix, values, 1).tolist() == [[3], [NONE], [2]]


def test_entropy_is_that_of_a_coin() -> None:
    shares = np.array([0, 0.1, 0.5, 0.9, 1])
    np.testing.assert_allclose(entropy(shares), [bits(one) for one in shares.tolist()], atol=1e-6)


def test_any_recommender_scores_the_items_of_a_table(
    table: AttributeTable, wanted: Interactions
) -> None:
    some = wanted.take(wanted.item < 50).compact()
    model = Popularity().fit(some)
    found = scores.by_recommender(model, some.histories(), table).scores
    assert found.shape == (len(some.users), len(table))
    histories = some.histories()
    own = model.score(histories)
    lowest = own.min(axis=1)
    position = some.items.find(table.items)
    for row in range(len(histories)):
        seen = set(histories.lists()[row])
        for column, item in enumerate(table.items):
            known = position[column] >= 0 and item not in seen
            assert found[row, column] == (own[row, position[column]] if known else lowest[row])


def test_sharpness_tells_whether_scores_tell(table: AttributeTable, wanted: Interactions) -> None:
    noise = np.random.default_rng(0).standard_normal((len(wanted.users), len(table)))
    assert scores.sharpness(scores.FixedScores(noise.astype(np.float32)), table, wanted) < 0.3
    telling = 0.1 * noise
    telling[wanted.user, wanted.item] += 1
    assert scores.sharpness(scores.FixedScores(telling.astype(np.float32)), table, wanted) > 2


def test_metrics_by_hand() -> None:
    found = Outcomes(
        np.array([1, 2, 15, 0]),
        np.array([1, 3, 10, 0]),
        np.zeros(4, np.int64),
        np.zeros(4, np.float32),
    )
    assert success(found, 15).tolist() == [1, 1, 1, 0]
    assert success(found, 2).tolist() == [1, 1, 0, 0]
    assert turns(found, 15).tolist() == [1, 2, 15, 15]
    second = 0.5 + (1 / math.log2(3) - 0.5) / 2
    last = 1 / math.log2(17) + (1 / math.log2(16) - 1 / math.log2(17)) / math.log2(11)
    np.testing.assert_allclose(hierarchical_dcg(found), [1, second, last, 0])

"""Ask or recommend: beliefs and gains as a second, plain computation has them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.chat.deciding import Policy, belief, decide, information
from persona_agent.chat.domain import Domain
from persona_agent.chat.state import ChatState, Opinion, asking, heard, showing

POLICY = Policy()
EMPTY = ChatState("films", "c1", turn=9)
ATTRIBUTES = ("genre:Film-Noir", "genre:Musical", "genre:Sci-Fi", "decade:1940", "decade:1950")


def opinions(said: dict[str, str]) -> list[Opinion]:
    return [Opinion("attribute", one, meaning, 1) for one, meaning in said.items()]  # type: ignore[arg-type]


def by_hand(domain: Domain, state: ChatState, prior: np.ndarray) -> list[float]:
    """The belief, one item after another."""
    weights = []
    for item, weight in zip(domain.table.items, prior.tolist(), strict=True):
        own = domain.attributes_of(item)
        for one in state.opinions:
            if one.target == "attribute" and one.meaning != "unsure":
                yes = POLICY.yes_if_has if one.id in own else POLICY.yes_if_not
                chance = yes if one.meaning == "yes" else 1 - yes
                weight *= chance ** (POLICY.remembered if one.turn == 0 else 1)
        gone = item in state.shown or any(
            one.target == "item" and one.id == item and one.meaning != "unsure"
            for one in state.opinions
        )
        weights.append(0.0 if gone else weight)
    total = sum(weights)
    return [one / total for one in weights]


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(["yes", "no", "unsure"])),
    st.integers(0, 5),
)
def test_the_belief_is_bayes_rule(domain: Domain, said: dict[str, str], shown: int) -> None:
    state = heard(EMPTY, opinions(said))
    state = heard(state, [Opinion("attribute", "decade:1960", "yes", 0)])
    if shown:
        state = showing(state, list(domain.table.items)[:shown])
    state = heard(state, [Opinion("item", "zq011", "no", 2)])
    prior = domain.prior(["zq000"])
    found = belief(domain, state, prior, POLICY)
    assert found == pytest.approx(by_hand(domain, state, prior), rel=1e-9)


def test_information_is_the_fall_of_entropy_that_the_answer_brings(domain: Domain) -> None:
    chances = domain.prior(["zq201", "zq205"])
    found = information(domain, chances, POLICY)

    def entropy(p: np.ndarray) -> float:
        return -sum(one * math.log2(one) for one in p.tolist() if one > 0)

    for position, attribute in enumerate(domain.table.attributes):
        has = np.array([attribute in domain.attributes_of(one) for one in domain.table.items])
        yes = np.where(has, POLICY.yes_if_has, POLICY.yes_if_not)
        left = 0.0
        for likely in (yes, 1 - yes):
            joint = chances * likely
            left += joint.sum() * entropy(joint / joint.sum())
        assert found[position] == pytest.approx(entropy(chances) - left, abs=1e-9)


def test_nothing_is_asked_twice_and_lists_come_after_patience(domain: Domain) -> None:
    state, asked = EMPTY, []
    prior = domain.prior([])
    for _ in range(POLICY.patience):
        step = decide(domain, state, belief(domain, state, prior, POLICY), POLICY)
        assert step.step == "ask"
        asked.append(step.ids[0])
        state = asking(state, step.ids[0])
    assert len(set(asked)) == POLICY.patience
    step = decide(domain, state, belief(domain, state, prior, POLICY), POLICY)
    assert (step.step, len(step.ids)) == ("show", POLICY.show)


def test_a_list_comes_when_it_is_likely_to_hold_what_is_wanted(domain: Domain) -> None:
    chances = np.zeros(len(domain.table))
    chances[:10] = [0.3, 0.3, *[0.05] * 8]
    step = decide(domain, EMPTY, chances, POLICY)
    assert (step.step, step.ids) == ("show", tuple(list(domain.table.items)[:3]))
    assert step.chance == pytest.approx(0.65)
    eager = replace(POLICY, worth=0.9)
    assert decide(domain, EMPTY, chances, eager).step == "ask"
    assert decide(domain, EMPTY, chances, eager, show_now=True).step == "show"


def test_everything_is_shown_in_the_end_and_then_nothing_is_left(domain: Domain) -> None:
    state = EMPTY
    for _ in range(len(domain.table) // POLICY.show):
        chances = belief(domain, state, domain.prior([]), POLICY)
        state = showing(state, decide(domain, state, chances, POLICY, show_now=True).ids)
    assert len(state.shown) == len(domain.table)
    chances = belief(domain, state, domain.prior([]), POLICY)
    assert decide(domain, state, chances, POLICY).step == "nothing"


def test_a_no_to_an_attribute_puts_its_items_last(domain: Domain) -> None:
    state = heard(EMPTY, opinions({"genre:Musical": "no", "genre:Sci-Fi": "no"}))
    best = decide(
        domain, state, belief(domain, state, domain.prior([]), POLICY), POLICY, show_now=True
    )
    assert {domain.attributes_of(one)[1] for one in best.ids} == {"genre:Film-Noir"}


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"show": 0}, "show is 0"),
        ({"yes_if_has": 0.1}, "the second the larger"),
        ({"remembered": 2.0}, "remembered is 2.0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(given_: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(**given_)  # type: ignore[arg-type]

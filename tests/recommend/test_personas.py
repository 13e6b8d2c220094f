"""Explanations by personas, on a model small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from persona_agent.errors import InputError
from persona_agent.recommend.data import HistoryLike, as_histories
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.personas import (
    collapse,
    effective_personas,
    explain_by_persona,
    mean_attention,
    persona_cards,
    supporting,
    taste_distribution,
)
from persona_agent.recommend.port import Ranking
from persona_agent.recommend.ranking import rank
from persona_agent.types import FloatArray

ITEMS = IdMap(["ale", "gin", "rum", "jam", "rye", "tea"], "item")
VECTORS = {
    "ale": (1.0, 0.1),
    "gin": (0.9, 0.0),
    "rum": (0.8, 0.2),
    "jam": (0.0, 1.0),
    "rye": (0.3, 0.9),
    "tea": (0.1, 0.8),
}


@dataclass
class Bar:
    """Persona 0 is about the first number of an item and persona 1 about the second."""

    sharpness: float = 4.0

    @property
    def items(self) -> IdMap:
        return ITEMS

    def item_vectors(self) -> FloatArray:
        return np.array([VECTORS[one] for one in ITEMS], np.float32)

    def personas(self, histories: HistoryLike) -> FloatArray:
        chosen = as_histories(histories, ITEMS).matrix.toarray()
        return np.einsum("pi,ik->pk", chosen, self.item_vectors())[:, :, None] * np.eye(2)

    def attention(self, histories: HistoryLike) -> FloatArray:
        each = np.exp(self.sharpness * self.personas(histories) @ self.item_vectors().T)
        return (each / each.sum(axis=1, keepdims=True)).astype(np.float32)

    def score(self, histories: HistoryLike, items: Sequence[str] | None = None) -> FloatArray:
        each = self.personas(histories) @ self.item_vectors().T
        scores = (self.attention(histories) * each).sum(axis=1).astype(np.float32)
        return scores if items is None else scores[:, ITEMS.positions(items)]


def shown(lists: list[list[str]]) -> Ranking:
    """Return these items in this order, as a model would."""
    width = max(map(len, lists))
    positions = np.array(
        [[*ITEMS.positions(one), *[-1] * (width - len(one))] for one in lists], np.int64
    )
    return Ranking(ITEMS, positions, np.zeros(positions.shape, np.float32))


def test_the_first_reason_is_the_persona_that_decides_with_the_own_items_that_support_it() -> None:
    why = explain_by_persona(Bar(), ["ale", "gin", "jam"], "rum", own=2)
    first, second = why.reasons
    assert (first.kind, first.ids) == ("persona", ("ale", "gin"))  # ale is nearer to rum
    assert second.ids[0] == "jam"
    assert first.weight > 0.9
    assert first.weight + second.weight == pytest.approx(1)
    assert why.score == pytest.approx(float(Bar().score([["ale", "gin", "jam"]], ["rum"])[0, 0]))
    assert why.sentence() == "rum, for the side of you that chose ale and gin."


def test_the_reasons_that_are_not_listed_are_the_rest() -> None:
    every = explain_by_persona(Bar(), ["ale", "jam"], "rye", top=None)
    fewer = explain_by_persona(Bar(), ["ale", "jam"], "rye", top=1)
    assert fewer.reasons == every.reasons[:1]
    assert fewer.rest == pytest.approx(every.reasons[1].weight)
    assert not every.additive


def test_an_unknown_item_an_empty_history_and_no_own_items_are_errors() -> None:
    with pytest.raises(InputError, match="unknown item ids"):
        explain_by_persona(Bar(), ["ale"], "milk")
    with pytest.raises(ValueError, match="the history is empty"):
        explain_by_persona(Bar(), [], "ale")
    with pytest.raises(ValueError, match="own is 0"):
        explain_by_persona(Bar(), ["ale"], "gin", own=0)


def test_support_is_attention_times_cosine_and_never_nothing() -> None:
    attention = np.array([0.9, 0.9, 0.1, 0.8])
    assert supporting(attention, np.array([0.5, 0.6, 1.0, -0.5]), 4).tolist() == [1, 0, 2]
    assert supporting(attention, np.array([-0.9, -0.2, -0.1, -0.5]), 3).tolist() == [2]
    assert supporting(attention, np.array([0.5, 0.5, 0.5, 0.5]), 2).tolist() == [0, 1]


def test_each_own_item_stands_on_the_card_of_the_persona_that_holds_it() -> None:
    cards = persona_cards(Bar(), ["ale", "gin", "rum", "tea"])
    assert [card.persona for card in cards] == [0, 1]
    assert [set(card.ids) for card in cards] == [{"ale", "gin", "rum"}, {"tea"}]
    assert sum(card.share for card in cards) == pytest.approx(1)
    assert cards[0].share > cards[1].share
    for card in cards:
        assert list(card.weights) == sorted(card.weights, reverse=True)
        assert min(card.weights) >= 0.5


def test_a_card_may_be_cut_or_empty_and_a_stranger_has_none() -> None:
    full = persona_cards(Bar(), ["ale", "gin", "rum"], own=None)
    assert [len(card.ids) for card in full] == [3, 0]
    assert persona_cards(Bar(), ["ale", "gin", "rum"], own=1)[0].ids == full[0].ids[:1]
    assert persona_cards(Bar(), []) == ()


def test_the_taste_distribution_is_the_mean_attention_over_history_and_list() -> None:
    histories = [["ale", "jam"], ["gin"], []]
    lists = [["gin", "rum"], [], ["tea"]]
    found = taste_distribution(Bar(), histories, shown(lists))
    attention = Bar().attention(histories)
    for row, (own, listed) in enumerate(zip(histories, lists, strict=True)):
        for side, ids in ((found.history, own), (found.listed, listed)):
            expected = attention[row][:, ITEMS.positions(ids)].mean(axis=1) if ids else 0.0
            np.testing.assert_allclose(side[row], expected, rtol=1e-5)
    assert found.distance[0] > 0.1
    assert np.isnan(found.distance[1:]).all()


def test_a_list_of_the_own_items_has_no_taste_distance() -> None:
    histories = [["ale", "jam", "tea"], ["gin", "rye"]]
    np.testing.assert_allclose(
        taste_distribution(Bar(), histories, shown(histories)).distance, 0, atol=1e-12
    )


def test_a_list_from_both_tastes_is_nearer_than_one_from_one_taste() -> None:
    history = [["ale", "jam"]]
    both = taste_distribution(Bar(), history, shown([["gin", "tea"]])).distance
    one = taste_distribution(Bar(), history, shown([["gin", "rum"]])).distance
    assert both[0] < one[0]


def test_the_taste_distribution_needs_a_ranking_of_the_same_people_and_items() -> None:
    with pytest.raises(ValueError, match="1 rows of 6 items for 2 histories"):
        taste_distribution(Bar(), [["ale"], ["gin"]], shown([["gin"]]))


def test_the_taste_distribution_of_many_people_does_not_depend_on_batches() -> None:
    rng = np.random.default_rng(0)
    histories = [rng.choice(ITEMS.ids, 3, replace=False).tolist() for _ in range(300)]
    ranking = rank(lambda people: Bar().score(people), ITEMS, histories, 2)
    every = taste_distribution(Bar(), histories, ranking)
    last = taste_distribution(
        Bar(), histories[-9:], Ranking(ITEMS, ranking.positions[-9:], ranking.scores[-9:])
    )
    np.testing.assert_allclose(every.history[-9:], last.history, rtol=1e-6)
    np.testing.assert_allclose(every.listed[-9:], last.listed, rtol=1e-6)
    assert len(taste_distribution(Bar(), [], rank(Bar().score, ITEMS, [], 2)).distance) == 0


def test_permuting_personas_permutes_shares_and_leaves_the_distance() -> None:
    attention = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5)).transpose(0, 2, 1)
    rows, columns = np.array([0, 0, 1, 3]), np.array([1, 2, 4, 0])
    order = [2, 0, 1]
    np.testing.assert_allclose(
        mean_attention(attention[:, order], rows, columns),
        mean_attention(attention, rows, columns)[:, order],
    )


def test_the_effective_number_of_personas_is_between_one_and_all() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(4) / 3, 50)
    found = effective_personas(shares)
    assert (found >= 1 - 1e-9).all()
    assert (found <= 4 + 1e-9).all()
    np.testing.assert_allclose(effective_personas(np.full((1, 4), 0.25)), 4)


def test_collapse_tells_copies_from_personas() -> None:
    shares = np.array([[0.99, 0.01], [0.5, 0.5], [0.0, 0.0]])
    copies = np.ones((3, 2, 4), np.float32)
    apart = np.eye(4, dtype=np.float32)[None, :2].repeat(3, axis=0)
    assert collapse(copies, shares).cosine == pytest.approx(1)
    assert collapse(apart, shares).cosine == pytest.approx(0)
    assert collapse(apart, shares).one_sided == pytest.approx(0.5)  # of those with a history
    assert np.isnan(collapse(copies[:, :1], shares[:, :1]).cosine)

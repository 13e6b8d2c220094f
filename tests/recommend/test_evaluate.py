"""The evaluator: full rankings, per user, and names that say when they are not full."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.errors import NotEnoughData
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.evaluate import evaluate, evaluate_sampled, long_tail, strata
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.popular import Popularity
from persona_agent.recommend.splits import Holdout, per_user

# Popularity ranks a (4 people), b (3), c (2), d (1).
POPULAR = Interactions.of(list("1234123121"), list("aaaabbbccd"))
ABCD = IdMap("abcd", "item")


def holdout(histories: list[str], wanted: list[str], deny: list[str] | None = None) -> Holdout:
    users = np.array([f"user{row}" for row in range(len(wanted))], object)

    def made(rows: list[str]) -> Histories:
        return Histories(ABCD, Histories.of([list(row) for row in rows], ABCD).matrix, users)

    return Holdout(made(histories), made(wanted), made(deny) if deny else None)


def test_values_are_per_user_and_worked_out_by_hand() -> None:
    found = evaluate(Popularity().fit(POPULAR), holdout(["", "a"], ["b", "cd"]), ks=(1, 2))
    assert found.users.tolist() == ["user0", "user1"]
    # user0 is shown a, b; user1 b, c
    assert found.per_user["recall@1"].tolist() == [0, 0]
    assert found.per_user["recall@2"].tolist() == [1, 0.5]
    assert found.per_user["mrr@2"].tolist() == [0.5, 0.5]
    assert found.mean("recall@2") == 0.75
    assert found.overall == {"coverage@1": 0.5, "coverage@2": 0.75}


def test_what_is_denied_makes_room_for_others() -> None:
    model = Popularity().fit(POPULAR)
    found = evaluate(model, holdout([""], ["c"], deny=["ab"]), ks=(1,))
    assert found.per_user["hit@1"].tolist() == [1]


def test_a_catalogue_smaller_than_k_is_no_harm() -> None:
    found = evaluate(Popularity().fit(POPULAR), holdout(["a"], ["bd"]), ks=(100,))
    assert found.per_user["recall@100"].tolist() == [1]
    assert found.per_user["map@100"].tolist() == [pytest.approx((1 + 2 / 3) / 2)]


def test_novelty_and_taste_come_with_what_they_need() -> None:
    table = ItemTable(ABCD, tuple("ABCD"), (("x",), ("y",), ("x",), ()), (0,) * 4)
    model = Popularity().fit(POPULAR)
    found = evaluate(model, holdout(["a", "d"], ["b", "b"]), ks=(1, 2), train=POPULAR, items=table)
    # user0 likes genre x and is shown b (y), then c (x); user1's history has no genre
    assert found.per_user["novelty@1"].tolist() == pytest.approx([-np.log2(3 / 4), 0])
    assert found.per_user["genre_distance@1"][0] == 1
    assert found.per_user["genre_distance@2"][0] < 1
    assert np.isnan(found.per_user["genre_distance@2"][1])
    assert found.mean("genre_distance@1") == 1
    assert found.frame().loc["user0", "genre_distance@1"] == 1


def test_sampled_metrics_carry_their_name_and_are_easier(world: Interactions) -> None:
    split = per_user(world, seed=0)
    model = EASE(l2=5).fit(split.train)
    full = evaluate(model, split.test, ks=(3,))
    sampled = evaluate_sampled(model, split.test, negatives=5, seed=0, ks=(3,))
    assert "ndcg@3_sampled5" in sampled.per_user
    assert not set(full.per_user) & set(sampled.per_user)
    assert sampled.mean("ndcg@3_sampled5") > full.mean("ndcg@3")
    again = evaluate_sampled(model, split.test, negatives=5, seed=0, ks=(3,))
    assert (again.per_user["hit@3_sampled5"] == sampled.per_user["hit@3_sampled5"]).all()
    with pytest.raises(NotEnoughData, match="1000 negatives are asked for"):
        evaluate_sampled(model, split.test, negatives=1000, seed=0)


def test_the_long_tail_is_what_few_chose() -> None:
    tail = long_tail(holdout(["", "a", ""], ["ab", "b", "cd"]), POPULAR, head=0.5)
    assert tail.wanted.lists() == [["c", "d"]]
    assert tail.wanted.users is not None
    assert tail.wanted.users.tolist() == ["user2"]
    assert tail.histories.lists() == [[]]
    assert long_tail(holdout(["a"], ["ab"]), POPULAR, head=0.25).wanted.lists() == [["b"]]


def test_strata_are_even_and_ascend() -> None:
    assert strata(np.array([0.3, 0.1, 0.2, 0.9, 0.5, 0.4]), 3).tolist() == [1, 0, 0, 2, 2, 1]
    assert strata(np.array([1.0, 1.0, np.nan]), 3).tolist() == [0, 1, 2]


def test_nothing_to_find_or_no_cut_is_an_error() -> None:
    model = Popularity().fit(POPULAR)
    with pytest.raises(ValueError, match=r"ks is \[0\]"):
        evaluate(model, holdout([""], ["b"]), ks=(0,))
    with pytest.raises(NotEnoughData, match="no users"):
        evaluate(model, holdout([], []))

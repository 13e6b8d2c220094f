"""Whom a model knows: by name and history together, and nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend import people
from persona_agent.recommend.data import Histories, Interactions

torch = pytest.importorskip("torch")


def named(lists: list[list[str]], names: list[str], world: Interactions) -> Histories:
    found = Histories.of(lists, world.items)
    return Histories(found.items, found.matrix, np.array(names, object))


def test_a_key_depends_on_name_and_items_and_on_nothing_else(world: Interactions) -> None:
    lists = [["i01", "i02"], ["i02", "i01"], ["i01"], ["i01", "i02"], []]
    names = ["ann", "ann", "ann", "bob", "ann"]
    first, second, less, other, none = people.keys(named(lists, names, world)).tolist()
    assert first == second
    assert len({first, less, other, none}) == 4
    (alone,) = people.keys(named(lists, names, world).take(slice(2, 3)))
    assert alone == less


def test_no_two_people_of_many_share_a_key() -> None:
    rng = np.random.default_rng(0)
    data = Interactions.of(
        rng.integers(3_000, size=40_000).astype(str).tolist(),
        rng.integers(500, size=40_000).astype(str).tolist(),
    )
    found = people.keys(data.histories())
    assert len(np.unique(found)) == len(found)
    anonymous = people.keys(Histories(data.items, data.matrix))
    assert len(np.unique(anonymous)) == len(
        np.unique([str(one) for one in data.histories().lists()])
    )


def test_known_people_start_from_their_vector_and_others_from_the_estimate(
    world: Interactions,
) -> None:
    histories = world.histories()
    learned = torch.randn(len(histories), 3)
    features = torch.randn(len(histories), 5)
    known = torch.tensor(people.keys(histories))
    arrays = people.serving(known, learned, features)
    rows = np.array([4, 0, 17])
    torch.testing.assert_close(
        people.start(arrays, histories.take(rows), features[rows]), learned[rows]
    )
    estimate = features[rows] @ arrays["people.map"]
    nameless = Histories(histories.items, histories.matrix[rows])
    torch.testing.assert_close(people.start(arrays, nameless, features[rows]), estimate)
    changed = named([one[1:] for one in histories.take(rows).lists()], ["a", "b", "c"], world)
    changed = Histories(changed.items, changed.matrix, histories.users[rows])
    torch.testing.assert_close(people.start(arrays, changed, features[rows]), estimate)


def test_the_estimate_finds_a_linear_rule() -> None:
    features = torch.randn(400, 5)
    rule = torch.randn(5, 3)
    arrays = people.serving(torch.arange(400), features @ rule, features)
    torch.testing.assert_close(arrays["people.map"], rule, atol=0.05, rtol=0.05)

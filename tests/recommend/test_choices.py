"""Losses over choices, by hand, and the items that people did not choose."""

from __future__ import annotations

import numpy as np
import pytest

from persona_agent.recommend import choices
from persona_agent.recommend.data import Interactions

torch = pytest.importorskip("torch")


def vectors(data: Interactions) -> choices.Vectors:
    generator = torch.Generator().manual_seed(3)
    people, items = (
        torch.randn(len(of), 4, generator=generator) for of in (data.users, data.items)
    )
    return choices.Vectors(people, items, (people, items))


def test_nobody_is_given_what_was_chosen_and_all_else_comes_up(world: Interactions) -> None:
    torch.manual_seed(0)
    user, item = torch.tensor(world.user), torch.tensor(world.item)
    chosen = world.matrix.toarray()
    seen = np.zeros_like(chosen)
    for _ in range(100):
        other = choices.not_chosen(user, item, len(world.items)).numpy()
        assert not chosen[world.user, other].any()
        seen[world.user, other] = 1
    assert (seen + chosen == 1).all()


def test_who_chose_everything_does_not_stop_training() -> None:
    data = Interactions.of(["ann", "ann"], ["tea", "jam"])
    other = choices.not_chosen(torch.tensor(data.user), torch.tensor(data.item), 2)
    assert set(other.tolist()) <= {0, 1}


def test_the_softmax_loss_is_the_mean_over_choices(world: Interactions) -> None:
    now = vectors(world)
    user, item = torch.tensor(world.user), torch.tensor(world.item)
    log_share = (now.people @ now.items.T).log_softmax(dim=1)[user, item]
    length = (now.people[user] ** 2).sum(dim=1) + (now.items[item] ** 2).sum(dim=1)
    due = (-log_share + 0.1 / 2 * length).mean()
    (found,) = choices.losses("softmax", lambda: now, world, batch=999, l2=0.1, place="cpu")
    torch.testing.assert_close(found, due)


def test_the_bpr_loss_is_that_of_the_drawn_items(world: Interactions) -> None:
    now = vectors(world)
    torch.manual_seed(7)
    (found,) = choices.losses("bpr", lambda: now, world, batch=9999, l2=0.1, place="cpu")
    torch.manual_seed(7)
    user, chosen = torch.tensor(world.user), torch.tensor(world.item)
    other = choices.not_chosen(user, chosen, len(world.items))
    person, item, not_so = now.people[user], now.items[chosen], now.items[other]
    margin = (person * item).sum(dim=1) - (person * not_so).sum(dim=1)
    length = (person**2 + item**2 + not_so**2).sum(dim=1)
    due = (-torch.sigmoid(margin).log() + 0.1 / 2 * length).mean()
    torch.testing.assert_close(found, due)


def test_a_step_takes_a_batch_and_asks_for_the_vectors_of_now(world: Interactions) -> None:
    asked = []

    def ask() -> choices.Vectors:
        asked.append(1)
        return vectors(world)

    steps = list(choices.losses("bpr", ask, world, batch=100, l2=0.0, place="cpu"))
    assert len(steps) == len(asked) == -(-len(world) // 100)


def test_an_unknown_loss_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="loss is 'hinge'; it must be one of bpr, softmax"):
        choices.check("hinge")

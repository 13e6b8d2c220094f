"""Training: it learns, it leaves no trace, it stops and goes on, and its losses are trl's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from persona_agent.errors import Diverged
from persona_agent.task import Task
from persona_agent.train.base import Base, Weights
from persona_agent.train.encode import Fork, Pair, preferences_of, rows_of
from persona_agent.train.examples import examples
from persona_agent.train.loop import Material, State, Trained, plan_of, train
from persona_agent.train.options import TrainOptions, rate_at
from persona_agent.types import Interaction

Rated = Callable[..., list[Interaction]]
OPTIONS = TrainOptions(rate=0.02, window=6, epochs=3, dropout=0.1)


def material(
    base: Base, history: Sequence[Interaction], task: Task, options: TrainOptions
) -> Material:
    made = examples(history, task, options)
    encode = preferences_of if options.is_preference else rows_of
    return encode(base.tokenizer, made, options.max_tokens)


def same(one: Weights, two: Weights) -> bool:
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def learn(base: Base, ratings: Rated, rating_task: Task) -> Callable[..., Trained]:
    """Trains on the ratings of a user by name."""

    def run(user: str, options: TrainOptions = OPTIONS, **given: object) -> Trained:
        rows = material(base, ratings(user, 24), rating_task, options)
        return train(base, rows, options, **given)  # type: ignore[arg-type]

    return run


def test_nothing_of_one_user_is_in_the_adapter_of_the_next(learn: Callable[..., Trained]) -> None:
    """Bit for bit, in either order; the released code of OPPU does the opposite."""
    alone = learn("bob")
    ann = learn("ann")
    after = learn("bob")
    assert same(alone.weights, after.weights)
    assert alone.losses == after.losses
    assert same(ann.weights, learn("ann").weights)
    assert not same(ann.weights, alone.weights)


def test_the_base_is_what_it_was_and_no_random_number_was_taken(
    base: Base, learn: Callable[..., Trained]
) -> None:
    before = {name: one.clone() for name, one in base.model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    learn("ann")
    assert torch.equal(torch.rand(3), expected)
    after = base.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("method", ["tft", "ntp", "cig", "dpo", "simpo"])
def test_every_method_learns_what_it_is_shown(learn: Callable[..., Trained], method: str) -> None:
    layers = ("v_proj", "up_proj", "down_proj")
    options = replace(OPTIONS, method=method, epochs=12, dropout=0.0, rate=0.05, targets=layers)
    if method == "simpo":
        options = replace(options, gamma=0.1)
    done = learn("ann", options)
    first, last = done.losses[:2], done.losses[-2:]
    assert sum(last) < 0.97 * sum(first)  # the output layer stays as random as it is


@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_a_text_that_is_read_once_teaches_what_its_pairs_teach(
    base: Base, ratings: Rated, rating_task: Task, method: str
) -> None:
    options = replace(OPTIONS, method=method, dropout=0.0, batch=100, rate=0.05)
    stars = replace(rating_task, options=("2", "3", "5"))  # of one token each in these tests
    forks = material(base, ratings("ann", 14), stars, options)
    assert [one.count for one in forks] == [6, 6, 2]
    pairs = [pair for fork in forks if isinstance(fork, Fork) for pair in fork.pairs()]
    assert len(pairs) == 14
    once, twice = train(base, forks, options), train(base, pairs, options)
    assert once.losses == pytest.approx(twice.losses, rel=1e-4)
    assert once.losses[-1] < once.losses[0]
    assert once.learned == twice.learned == 3 * 14
    for name, one in once.weights.items():
        assert torch.allclose(one, twice.weights[name], atol=2e-3)


def test_forks_and_pairs_are_learned_side_by_side(
    base: Base, ratings: Rated, rating_task: Task
) -> None:
    options = replace(OPTIONS, method="dpo", dropout=0.0, epochs=1)
    mixed = material(base, ratings("ann", 24), rating_task, options)  # "4" merges with its prompt
    assert {type(one) for one in mixed} == {Fork, Pair}
    done = train(base, mixed, options)
    assert done.learned == sum(one.count for one in mixed) == 24
    assert done.losses[0] == pytest.approx(math.log(2), abs=1e-3)


def test_a_stopped_training_goes_on_as_if_it_had_not(learn: Callable[..., Trained]) -> None:
    whole = learn("ann")
    states: list[State] = []
    learn("ann", save=states.append, save_s=0.0)
    assert len(states) == len(whole.losses) - 1
    for state in (states[0], states[-1]):
        resumed = learn("ann", resume=state)
        assert same(whole.weights, resumed.weights)
        assert resumed.losses == whole.losses


def test_training_begins_with_what_it_is_given(learn: Callable[..., Trained]) -> None:
    cohort = learn("ann")
    still = replace(OPTIONS, rate=1e-12, decay=0.0)
    on_top = learn("bob", still, start=cohort.weights)
    for name, one in cohort.weights.items():
        assert torch.allclose(on_top.weights[name], one, atol=1e-6)
    with pytest.raises(ValueError, match="other layers"):
        learn("bob", start={"base_model.model.nowhere.lora_A.weight": torch.zeros(1)})


def test_a_rate_that_does_not_train_is_told(learn: Callable[..., Trained]) -> None:
    with pytest.raises(Diverged, match="lower the rate"):
        learn("ann", replace(OPTIONS, rate=1e30, epochs=20))


def test_only_what_counts_goes_through_the_output_layer(
    base: Base, ratings: Rated, rating_task: Task
) -> None:
    """The log-probabilities are those of the whole model, however rows are filled up."""
    rows = material(base, ratings("ann", 20), rating_task, OPTIONS)
    together = base.logprobs(base.model, rows)  # type: ignore[arg-type]  # no pairs
    alone = []
    for row in rows:
        whole = base.model(torch.tensor([row.tokens])).logits[0].log_softmax(-1)
        alone += [float(whole[place - 1, row.tokens[place]]) for place in row.learned]
    assert together.tolist() == pytest.approx(alone, abs=1e-4)


def test_every_row_is_seen_once_an_epoch_and_the_order_is_the_seeds() -> None:
    counts = [5, 3, 8, 1, 1, 16, 2]
    plan = plan_of(counts, OPTIONS)
    seen = [place for rows in plan for place in rows]
    assert sorted(seen) == sorted(list(range(7)) * 3)
    assert plan == plan_of(counts, OPTIONS)
    assert plan != plan_of(counts, replace(OPTIONS, seed=1))
    for rows in plan:
        assert sum(counts[place] for place in rows[:-1]) < OPTIONS.batch


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(i, 20, TrainOptions(warmup=0.1, rate=1.0)) for i in range(20)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates == sorted(rates[:3]) + sorted(rates[3:], reverse=True)
    assert rates[-1] > 0

"""Splits lose nothing, leak nothing, and are what their hash says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.errors import InputError, NotEnoughData
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.splits import (
    Holdout,
    Part,
    Split,
    global_time,
    leave_one_out,
    per_user,
    strong,
)

PROTOCOLS: dict[str, Callable[[Interactions, int], Split]] = {
    "strong": lambda data, seed: strong(data, seed=seed),
    "per_user": lambda data, seed: per_user(data, seed=seed),
    "leave_one_out": lambda data, seed: leave_one_out(data, seed=seed),
    "leave_one_out_random": lambda data, seed: leave_one_out(data, by="random", seed=seed),
    "global_time": lambda data, seed: global_time(data),
}


@st.composite
def data(draw: st.DrawFn) -> Interactions:
    people = draw(st.lists(st.integers(1, 14), min_size=10, max_size=25))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    users, items = [], []
    for person, count in enumerate(people):
        for item in rng.choice(20, count, replace=False):
            users.append(str(person))
            items.append(str(item))
    return Interactions.of(users, items, times=rng.integers(0, 10**6, len(users)))


def named(histories: Histories) -> set[tuple[str, str]]:
    assert histories.users is not None
    lists = histories.lists()
    return {(user, item) for user, row in zip(histories.users, lists, strict=True) for item in row}


def of_train(split: Split) -> set[tuple[str, str]]:
    return named(split.train.histories())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=25, deadline=None)
@given(data=data(), seed=st.integers(0, 5))
def test_parts_are_disjoint_and_exhaustive_and_nothing_leaks(
    protocol: str, data: Interactions, seed: int
) -> None:
    split = PROTOCOLS[protocol](data, seed)
    train, valid, test = of_train(split), named(split.valid.wanted), named(split.test.wanted)
    everything = named(data.histories())
    assert not train & valid
    assert not train & test
    assert not valid & test
    unused = int((split.parts == Part.UNUSED).sum())
    folded = np.isin(split.parts, [Part.VALID_HISTORY, Part.TEST_HISTORY]).sum()
    assert len(train) + len(valid) + len(test) + folded + unused == len(everything)
    for holdout in (split.valid, split.test):
        assert not named(holdout.wanted) & named(holdout.histories)
        assert all(holdout.wanted.lists())
        assert (holdout.histories.users == holdout.wanted.users).all()
        assert holdout.histories.items == split.train.items
    if protocol == "strong":
        learned = {user for user, _ in train}
        assert not learned & {user for user, _ in valid | test}
        assert not {user for user, _ in valid} & {user for user, _ in test}
        assert {item for _, item in train} == set(split.train.items)
    else:
        assert unused == folded == 0
        assert named(split.test.histories) <= train


@settings(max_examples=25, deadline=None)
@given(data=data())
def test_what_is_to_be_found_is_later_than_what_was_learned(data: Interactions) -> None:
    assert data.times is not None
    split = global_time(data)
    latest = {part: data.times[split.parts == part].max() for part in (Part.TRAIN, Part.VALID)}
    assert data.times[split.parts == Part.VALID].min() > latest[Part.TRAIN]
    assert data.times[split.parts == Part.TEST].min() > latest[Part.VALID]
    single, eighths = leave_one_out(data), per_user(data, seed=0, by="time")
    for user in range(len(data.users)):
        own = data.user == user
        times = {
            part: data.times[own & (single.parts == part)]
            for part in (Part.TRAIN, Part.VALID, Part.TEST)
        }
        assert len(times[Part.TEST]) == (own.sum() >= 2)
        assert len(times[Part.VALID]) == (own.sum() >= 3)
        for parts in (single.parts, eighths.parts):
            times = {part: data.times[own & (parts == part)] for part in times}
            for earlier, later in ((Part.TRAIN, Part.VALID), (Part.VALID, Part.TEST)):
                if len(times[earlier]) and len(times[later]):
                    assert times[earlier].max() <= times[later].min()


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (1, (1, 0, 0)),
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (9, (7, 1, 1)),
        (10, (8, 1, 1)),
        (29, (25, 2, 2)),
    ],
)
def test_a_users_share_is_rounded_as_recbole_rounds_it(
    count: int, parts: tuple[int, int, int]
) -> None:
    data = Interactions.of(["u"] * count, [str(one) for one in range(count)])
    assert tuple(np.bincount(per_user(data, seed=0).parts, minlength=3)) == parts


def test_folding_in_keeps_four_fifths_and_at_least_one_to_find() -> None:
    users = [f"{person:02}" for person in range(20) for _ in range(12)]
    items = [str(item) for _ in range(20) for item in range(12)]
    split = strong(Interactions.of(users, items), seed=0)
    assert (len(split.train.users), len(split.valid), len(split.test)) == (16, 2, 2)
    assert [len(row) for row in split.test.wanted.lists()] == [2, 2]
    assert [len(row) for row in split.test.histories.lists()] == [10, 10]
    pairs = Interactions.of([u for u in users[::12] for _ in "xy"], list("xy") * 20)
    assert [len(row) for row in strong(pairs, seed=0).test.wanted.lists()] == [1, 1]


def test_while_testing_what_was_validated_is_not_recommended(world: Interactions) -> None:
    split = per_user(world, seed=1)
    assert split.valid.deny is None
    assert split.test.deny is not None
    assert named(split.test.deny) <= named(split.valid.wanted)
    assert strong(world, seed=1).test.deny is None


def test_a_seed_decides_and_the_order_of_rows_does_not(world: Interactions) -> None:
    for make in PROTOCOLS.values():
        assert make(world, 3).fingerprint() == make(world, 3).fingerprint()
    assert per_user(world, seed=1).fingerprint() != per_user(world, seed=2).fingerprint()
    assert strong(world, seed=1).fingerprint() != strong(world, seed=2).fingerprint()


def test_a_saved_split_comes_back_and_a_changed_one_does_not(
    world: Interactions, tmp_path: Path
) -> None:
    split = strong(world, seed=5)
    split.save(tmp_path)
    again = Split.load(tmp_path, world)
    assert again.fingerprint() == split.fingerprint()
    assert (again.protocol, dict(again.settings)) == (split.protocol, dict(split.settings))
    with pytest.raises(InputError, match="splits other interactions"):
        Split.load(tmp_path, world.at_least(2))
    parts = split.parts.copy()
    parts[0] = (parts[0] + 1) % 3
    np.save(tmp_path / "parts.npy", parts)
    with pytest.raises(InputError, match=r"parts\.npy is not what split\.json says"):
        Split.load(tmp_path, world)
    with pytest.raises(InputError, match="holds no saved split"):
        Split.load(tmp_path / "nowhere", world)


def test_what_cannot_be_split_is_refused_with_the_reason(world: Interactions) -> None:
    untimed = Interactions(world.users, world.items, world.user, world.item, world.values)
    with pytest.raises(InputError, match="have no times"):
        global_time(untimed)
    with pytest.raises(InputError, match="have no times"):
        leave_one_out(untimed)
    with pytest.raises(NotEnoughData, match="2 users cannot be split"):
        strong(world.take(world.user < 2).compact(), seed=0)
    with pytest.raises(NotEnoughData, match="at 1 moments"):
        global_time(Interactions.of(list("abc"), list("xyz"), times=[5, 5, 5]))
    with pytest.raises(ValueError, match="ratios are"):
        per_user(world, seed=0, ratios=(8, 1))
    with pytest.raises(ValueError, match="by is 'size'; use random or time"):
        per_user(world, seed=0, by="size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fold_in is 1"):
        strong(world, seed=0, fold_in=1)
    with pytest.raises(ValueError, match=r"valid is 0\.5 and test 0\.5"):
        global_time(world, valid=0.5, test=0.5)


def test_a_holdout_counts_its_people(world: Interactions) -> None:
    assert isinstance(per_user(world, seed=0).test, Holdout)
    assert len(per_user(world, seed=0).test) == len(world.users)

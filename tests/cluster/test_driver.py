"""The fleet, on real Ray: every user ends exactly once, whoever dies, hangs, raises or never comes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from persona_agent.cluster import Done, Ended, Failed, Fleet, Ready, run_many
from persona_agent.cluster.driver import Event
from persona_agent.errors import BackendError

pytestmark = pytest.mark.real("ray")

USERS = [f"u{i}" for i in range(12)]


@pytest.fixture(autouse=True)
def _joined(ray_cluster: Any) -> None:
    """Send what is defined here to the workers by value: they cannot import a test."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def upper() -> Callable[[Sequence[str]], list[str]]:
    return lambda users: [user.upper() for user in users]


def poisoned() -> Callable[[Sequence[str]], list[str]]:
    """Return work that the user u5 kills."""

    def work(users: Sequence[str]) -> list[str]:
        if "u5" in users:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(users)

    return work


def raising() -> Callable[[Sequence[str]], list[str]]:
    def work(users: Sequence[str]) -> list[str]:
        if "u5" in users:
            raise OSError("the disk is gone")
        return list(users)

    return work


def hanging() -> Callable[[Sequence[str]], list[str]]:
    def work(users: Sequence[str]) -> list[str]:
        if "u5" in users:
            time.sleep(60)
        return list(users)

    return work


def slow_first(marker: Path) -> Callable[[Sequence[str]], list[str]]:
    """Return work that takes long in the one worker that opens first, or that comes back late."""
    slow = not marker.exists()
    marker.touch()

    def work(users: Sequence[str]) -> list[str]:
        time.sleep(1.0 if slow else 0.01)
        return list(users)

    return work


def opens_later(folder: Path) -> Callable[[Sequence[str]], list[str]]:
    """Fail to open once for each file that is left in a folder."""
    for file in folder.iterdir():
        file.unlink()
        raise OSError("not yet")
    return upper()


class Holding:
    """Work that holds a file until it is closed; it takes a while to open but in one worker."""

    def __init__(self, folder: Path) -> None:
        if any(folder.iterdir()):
            time.sleep(1.0)
        self._file = folder / f"{os.getpid()}"
        self._file.touch()

    def __call__(self, users: Sequence[str]) -> list[str]:
        return list(users)

    def close(self) -> None:
        self._file.rename(self._file.with_suffix(".closed"))


def never() -> Callable[[Sequence[str]], list[str]]:
    raise OSError("no such engine")


def ended(events: Iterable[Event[list[str]]]) -> list[str]:
    """Return the users of every end, in the order they came."""
    return [user for event in events if isinstance(event, (Done, Failed)) for user in event.users]


def test_every_user_is_in_one_batch() -> None:
    events = list(run_many(upper, USERS, Fleet(workers=2, batch=5)))
    assert sorted(ended(events)) == sorted(USERS)
    done = [event for event in events if isinstance(event, Done)]
    assert all(event.value == [user.upper() for user in event.users] for event in done)
    assert sorted(len(event.users) for event in done) == [2, 5, 5]
    assert not [event for event in events if isinstance(event, Ended)]


def test_no_more_workers_open_than_there_are_batches() -> None:
    events = list(run_many(upper, USERS[:3], Fleet(workers=2, batch=3)))
    assert [type(event) for event in events] == [Ready, Done]


def test_workers_give_back_what_they_hold_also_those_that_open_when_all_is_done(
    tmp_path: Path,
) -> None:
    events = list(run_many(partial(Holding, tmp_path), USERS, Fleet(workers=2, batch=1)))
    assert sorted(ended(events)) == sorted(USERS)
    held = list(tmp_path.iterdir())
    assert held
    assert all(file.suffix == ".closed" for file in held), held


def test_no_users_need_no_worker() -> None:
    assert list(run_many(never, [], Fleet())) == []


def test_who_kills_every_worker_takes_no_other_user_along() -> None:
    events = list(run_many(poisoned, USERS, Fleet(workers=2, batch=4, attempts=2)))
    assert sorted(ended(events)) == sorted(USERS)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.users == ("u5",)
    assert failed.reason.startswith("given up after 2 attempts: worker ")
    assert "died: ActorDiedError" in failed.reason
    deaths = [event for event in events if isinstance(event, Ended)]
    assert len(deaths) == 2
    assert all(f"process {event.worker.pid} on" in event.reason for event in deaths)


def test_work_that_raises_is_tried_again_and_told_with_its_reason() -> None:
    events = list(run_many(raising, USERS, Fleet(workers=1, batch=4, attempts=2)))
    assert sorted(ended(events)) == sorted(USERS)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.users == ("u5",)
    assert "failed: OSError: the disk is gone" in failed.reason


def test_a_worker_that_hangs_is_ended() -> None:
    fleet = Fleet(workers=2, batch=4, attempts=1, batch_s=2)
    events = list(run_many(hanging, USERS, fleet))
    assert sorted(ended(events)) == sorted(USERS)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.users == ("u4", "u5", "u6", "u7")
    assert "took more than 2 s for a batch of 4 users" in failed.reason


def test_a_slow_worker_does_not_hold_up_the_others(tmp_path: Path) -> None:
    many = [f"u{i}" for i in range(60)]
    work = partial(slow_first, tmp_path / "taken")
    events = list(run_many(work, many, Fleet(workers=2, batch=1)))
    assert sorted(ended(events)) == sorted(many)
    counts = sorted(
        sum(isinstance(event, Done) and event.worker.number == number for event in events)
        for number in (1, 2)
    )
    assert counts[0] < counts[1]


def test_a_worker_that_fails_to_open_is_opened_again(tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    fleet = Fleet(workers=1, attempts=2)
    events = list(run_many(partial(opens_later, tmp_path), USERS, fleet))
    assert [type(event) for event in events] == [Ended, Ready, Done]
    assert isinstance(events[0], Ended)
    assert events[0].reason == "worker 1 failed: OSError: not yet"


def test_workers_that_never_open_are_an_error_that_says_why() -> None:
    with pytest.raises(BackendError, match=r"no worker could be opened: .*no such engine"):
        list(run_many(never, USERS, Fleet(workers=2, attempts=1)))


def test_more_workers_than_there_is_room_for_are_no_harm() -> None:
    events = list(run_many(upper, USERS, Fleet(workers=4, batch=3)))
    assert sorted(ended(events)) == sorted(USERS)


def test_no_room_for_any_worker_is_an_error_that_says_what_is_missing() -> None:
    with pytest.raises(BackendError, match="needs 9 CPU and 0 GPU, of which the cluster has"):
        list(run_many(upper, USERS, Fleet(workers=1, cpus=9, open_s=1, attempts=1)))


def test_what_cannot_be_pickled_is_refused_at_once() -> None:
    lock = sys._current_frames()
    with pytest.raises(TypeError, match=r"pickle|serialize"):
        list(run_many(lambda: lock and upper(), USERS, Fleet(workers=1)))


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"batch": 0}, {"attempts": 0}, {"gpus": -1}, {"open_s": 0}]
)
def test_a_fleet_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Fleet(**wrong)

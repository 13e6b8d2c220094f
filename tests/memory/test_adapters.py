"""Adapters and what they were made of: together, or not at all; and both forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import StoreError, UnknownUser
from persona_agent.memory.adapter_files import WEIGHTS, AdapterFiles, digest_of
from persona_agent.memory.adapter_rows import Adapter, Source, hashes_of
from persona_agent.memory.adapters import adapters_of, begin, sources_of
from persona_agent.memory.forget import forget
from persona_agent.memory.store import Store
from persona_agent.memory.verify import verify
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN, BOB, EVE = (Scope(name) for name in ("ann", "bob", "eve"))

Make = Callable[..., Adapter]


@pytest.fixture
def files(store: Store, tmp_path: Path) -> AdapterFiles:
    """The adapters of a store that holds three events of each of three people."""
    for scope in (ANN, BOB, EVE):
        store.add(
            [
                Interaction(scope, NOW + timedelta(hours=i), f"of {scope.user}", id=f"e{i}")
                for i in range(3)
            ],
            now=NOW,
        )
    return AdapterFiles(store, tmp_path / "adapters")


def started(
    files: AdapterFiles, name: str, *sources: tuple[str, str], start: str | None = None
) -> Adapter:
    found = []
    with files.store.database.read() as connection:
        for user, event in sources:
            known = hashes_of(connection, ("default", user), [event])
            found.append(Source(user, event, known.get(event, "none")))
    users = {one.user for one in found}
    user = users.pop() if len(users) == 1 else None
    adapter = Adapter(name, "default", user, "tft", "local", "b", NOW, start, {"rank": 8})
    begin(files.store, adapter, found)
    return adapter


@pytest.fixture
def make(files: AdapterFiles) -> Make:
    """Makes an adapter of events, written (user, event)."""

    def make(name: str, *sources: tuple[str, str], start: str | None = None) -> Adapter:
        with files.making(name) as folder:
            adapter = started(files, name, *sources, start=start)
            (folder / WEIGHTS).write_bytes(b"secret of " + name.encode())
            done = replace(adapter, digest=digest_of(folder))
            files.publish(done)
        return done

    return make


def check(files: AdapterFiles) -> tuple[str, ...]:
    paths = [one for one in files.root.rglob("*") if one.is_file()]
    found = verify(files.store, files=paths, check_files=files.problems)
    return found.problems


def test_an_adapter_is_kept_with_what_it_was_made_of(files: AdapterFiles, make: Make) -> None:
    done = make("a", ("ann", "e0"), ("ann", "e1"))
    assert adapters_of(files.store, "default", "ann") == [done]
    assert [one.event for one in sources_of(files.store, done)] == ["e0", "e1"]
    assert (files.path("a") / WEIGHTS).read_bytes() == b"secret of a"
    assert adapters_of(files.store, "default", "bob") == []
    assert adapters_of(files.store, "other", "ann") == []
    assert check(files) == ()
    with pytest.raises(StoreError, match="train again"):
        files.path("nowhere")


def test_a_newer_one_takes_the_place_of_the_older(files: AdapterFiles, make: Make) -> None:
    make("a", ("ann", "e0"))
    make("b", ("ann", "e0"), ("ann", "e1"))
    assert [one.name for one in adapters_of(files.store, "default")] == ["b"]
    assert sorted(one.name for one in files.root.iterdir()) == ["b"]
    assert check(files) == ()


def test_forgetting_somebody_takes_what_they_are_in_and_what_began_with_it(
    files: AdapterFiles, make: Make
) -> None:
    make("cohort", ("ann", "e0"), ("bob", "e0"))
    make("of-eve", ("eve", "e1"), start="cohort")
    make("of-bob", ("bob", "e1"))
    assert forget(files.store, ANN, NOW, dry_run=True).rows["adapters"] == 2
    receipt = forget(files.store, ANN, NOW, forgetters={"adapters on disk": files})
    assert receipt.outside == {"adapters on disk": 2}
    assert "2 adapters on disk" in str(receipt)
    assert [one.name for one in adapters_of(files.store, "default")] == ["of-bob"]
    assert [one.name for one in files.root.iterdir()] == ["of-bob"]
    assert check(files) == ()
    assert forget(files.store, ANN, NOW, forgetters={"adapters on disk": files}).outside == {
        "adapters on disk": 0
    }


def test_an_event_that_goes_takes_the_adapters_along(files: AdapterFiles, make: Make) -> None:
    make("a", ("ann", "e0"), ("ann", "e1"))
    make("b", ("bob", "e0"))
    files.store.delete(ANN, "e2", NOW)
    assert len(adapters_of(files.store, "default")) == 2
    files.store.delete(ANN, "e1", NOW)
    assert [one.name for one in adapters_of(files.store, "default")] == ["b"]
    assert "the files of adapter a should be gone" in check(files)[0]
    assert files.sweep() == 1
    assert [one.name for one in files.root.iterdir()] == ["b"]
    assert check(files) == ()


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"query": "of somebody else"}, []),
        ({"outcome": "dislikes it"}, []),
        ({"metadata": {"title": "other"}}, []),
        ({"metadata": {}}, []),
        ({"metadata": {"title": "first", "more": 1}}, ["a"]),
        ({"item": "i1", "response": "added later"}, ["a"]),
        ({"outcome": "likes it"}, ["a"]),
    ],
)
def test_what_learned_something_that_is_replaced_goes(
    files: AdapterFiles, make: Make, change: dict[str, Any], left: list[str]
) -> None:
    """What only fills in what was missing leaves adapters: they learned nothing that is untrue now."""
    told = Interaction(ANN, NOW, "a film", "likes it", metadata={"title": "first"}, id="told")
    files.store.add([told], now=NOW)
    make("a", ("ann", "e0"), ("ann", "told"))
    make("of-eve", ("eve", "e0"), start="a")
    make("b", ("bob", "e0"))
    files.store.update(ANN, "told", **change, now=NOW)
    there = [one.name for one in adapters_of(files.store, "default")]
    assert sorted(there) == sorted([*left, *(["of-eve"] if left else []), "b"])
    files.sweep()
    assert sorted(one.name for one in files.root.iterdir()) == sorted(there)
    assert check(files) == ()


def test_what_is_forgotten_without_its_folder_is_swept_later(
    files: AdapterFiles, make: Make
) -> None:
    make("a", ("ann", "e0"))
    assert forget(files.store, ANN, NOW).rows["adapters"] == 1
    assert len(check(files)) == 1
    files.sweep()
    assert list(files.root.iterdir()) == []
    assert check(files) == ()


def test_a_training_that_forgetting_overtakes_leaves_nothing(files: AdapterFiles) -> None:
    with files.making("a") as folder:
        adapter = started(files, "a", ("ann", "e0"))
        (folder / WEIGHTS).write_bytes(b"secret")
        assert adapters_of(files.store, "default") == []
        assert forget(files.store, ANN, NOW, forgetters={"files": files}).outside["files"] == 1
        with pytest.raises((UnknownUser, StoreError)):
            files.publish(adapter)
    assert list(files.root.iterdir()) == []
    assert check(files) == ()


def test_a_training_that_died_is_no_adapter_and_can_be_taken_up(
    files: AdapterFiles, make: Make
) -> None:
    with files.making("a") as folder:
        started(files, "a", ("ann", "e0"))
        (folder / "state").write_text("half")
    assert adapters_of(files.store, "default") == []
    with files.making("a") as folder:
        assert (folder / "state").read_text() == "half"
    make("a", ("ann", "e0"))
    assert check(files) == ()


def test_two_do_not_make_the_same(files: AdapterFiles) -> None:
    with (
        files.making("a"),
        pytest.raises(StoreError, match="another process trains a"),
        files.making("a"),
    ):
        pytest.fail("it was let in")


def test_what_changed_since_it_was_read_is_not_trained_on(files: AdapterFiles, make: Make) -> None:
    with pytest.raises(StoreError, match="event 'e9' of user 'ann' is gone"):
        started(files, "a", ("ann", "e9"))
    with pytest.raises(StoreError, match="to begin with is gone"):
        make("b", ("ann", "e0"), start="nowhere")
    assert adapters_of(files.store, "default") == []


@pytest.mark.parametrize("harm", ["files", "folder", "stranger"])
def test_verify_finds_files_that_are_not_those_of_the_rows(
    files: AdapterFiles, make: Make, harm: str
) -> None:
    make("a", ("ann", "e0"))
    if harm == "files":
        (files.path("a") / WEIGHTS).write_bytes(b"other")
    elif harm == "folder":
        files.path("a").rename(files.root / "away")
    else:
        (files.root / "stranger").mkdir()
    assert check(files) != ()

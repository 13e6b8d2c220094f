"""Alignment by a fleet, on real Ray and PostgreSQL: done exactly once, whatever ends on the way.

What became of the users is read from the database, not from the report alone.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.cluster import Engine, Fleet, Progress, Report, align_users
from persona_agent.cluster.align import check_machines
from persona_agent.errors import BackendError, StoreError
from persona_agent.eval.bench.cluster import (
    OPTIONS,
    Audit,
    Killer,
    SlowFake,
    audit,
    events,
    name,
    populated,
)
from persona_agent.eval.movielens import RATING
from persona_agent.llm import FakeLLM, open_llm
from persona_agent.llm.openai import OpenAILLM
from persona_agent.llm.vllm import VLLM
from persona_agent.types import ModelRequest, Usage

pytestmark = pytest.mark.real("ray")

ENGINE = Engine(SlowFake(0.02), embedder="hash")
EIGHTS = Fleet(batch=8)


@pytest.fixture
def new_users(new_schema: Callable[[], str]) -> Callable[[int], str]:
    """Give a function that makes a PostgreSQL database with so many users in it."""
    return lambda count: populated(new_schema(), count)


def align(
    place: str | Path,
    users: list[str] | None = None,
    *,
    engine: Engine = ENGINE,
    fleet: Fleet = EIGHTS,
    options: AlignOptions = OPTIONS,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    return align_users(
        place,
        users,
        engine=engine,
        fleet=fleet,
        options=options,
        task=RATING,
        on_progress=on_progress,
    )


def broken() -> FakeLLM:
    def answer(request: ModelRequest) -> str:
        raise BackendError("the engine is dead")

    return FakeLLM(answer)


def names(count: int) -> list[str]:
    return [name(number) for number in range(count)]


def test_two_nodes_align_200_users_each_once(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(200)
    told: list[Progress] = []
    report = align(place, on_progress=told.append, fleet=Fleet(workers=2, batch=16))
    assert audit(place) == Audit(aligned=200, doubled=0)
    assert [one.user for one in report.results] == names(200)
    assert not report.failed
    assert not report.ended
    assert [one.accepted for one in report.results] == [True, False] * 100
    assert max(len(one.workers) for one in told) == 2  # a node has room for one
    assert (told[-1].done, told[-1].failed, told[-1].users) == (200, 0, 200)
    assert [one.done for one in told] == sorted(one.done for one in told)
    cost = report.cost
    assert cost.users == 200
    assert cost.usage.requests > 200 * 40
    assert cost.usage == told[-1].spent.usage
    assert 0 < cost.engine_seconds < cost.worker_seconds < 2 * cost.seconds


@pytest.mark.real("vllm")
def test_two_nodes_align_16_users_with_vllm(
    ray_cluster: Any, new_users: Callable[[int], str], served: OpenAILLM
) -> None:
    """Two workers share one real server, as replicas of a pool would be shared."""
    place = new_users(16)
    engine = Engine(f"openai:{served.model}", base_url=served.base_url, embedder="hash", gpus=0.5)
    # A real model writes every summary, critique and rewrite: as few as will do.
    short = AlignOptions(recent=2, rounds=1, held_out=4, anchors=1)
    report = align(place, engine=engine, fleet=Fleet(workers=2, batch=8), options=short)
    assert not report.failed, report.failed
    assert [one.user for one in report.results] == names(16)
    assert report.cost.usage.cached_tokens > 0.5 * report.cost.usage.prompt_tokens
    assert audit(place) == Audit(aligned=16, doubled=0)


@pytest.mark.real("vllm")
def test_a_worker_drives_vllm_in_its_own_process_and_leaves_none_behind(
    ray_cluster: Any, new_users: Callable[[int], str], weights: Path
) -> None:
    place, before = new_users(2), engine_processes()
    engine = Engine(partial(VLLM, weights, context_tokens=2048), embedder="hash")
    short = AlignOptions(recent=2, rounds=1, held_out=4, anchors=1)
    report = align(place, engine=engine, fleet=Fleet(workers=1, batch=2), options=short)
    assert not report.failed, report.failed
    assert audit(place) == Audit(aligned=2, doubled=0)
    assert report.cost.usage.cached_tokens > 0
    deadline = time.monotonic() + 60
    while engine_processes() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not engine_processes() - before


def engine_processes() -> set[int]:
    """Return the numbers of vLLM's own processes on this machine."""
    told = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return {int(line.split()[0]) for line in told.stdout.splitlines() if "VLLM::" in line}


def test_the_fleet_comes_to_what_one_process_comes_to(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place, own = new_users(6), new_users(6)
    report = align(place, fleet=Fleet(workers=1, batch=2))
    with PersonaAgent.open(
        own, llm=SlowFake(0), embedder="hash", task=RATING, options=OPTIONS
    ) as agent:
        expected = [result.unwrap() for result in agent.align()]
    assert [(one.user, one.accepted, one.version, one.rounds) for one in report.results] == [
        (one.after.scope.user, one.accepted, one.after.version, one.rounds) for one in expected
    ]


def test_a_worker_killed_half_way_loses_and_doubles_nobody(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(60)
    kill, told = Killer(after=24), list[Progress]()

    def on_progress(progress: Progress) -> None:
        told.append(progress)
        kill(progress)

    report = align(place, on_progress=on_progress)
    assert kill.killed is not None
    assert audit(place) == Audit(aligned=60, doubled=0)
    assert not report.failed
    assert sum(one.accepted for one in report.results) == 30
    (reason,) = report.ended
    assert f"process {kill.killed} on" in reason
    assert reason in [one.news for one in told]
    assert len(told[-1].workers) <= 2


def test_a_node_that_goes_away_loses_and_doubles_nobody(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(48)
    extra = ray_cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    ray_cluster.wait_for_nodes()
    gone = []

    def on_progress(progress: Progress) -> None:
        if not gone and progress.done >= 16 and len(progress.workers) == 4:
            gone.append(extra)
            ray_cluster.remove_node(extra, allow_graceful=False)

    report = align(place, fleet=Fleet(workers=4, batch=2), on_progress=on_progress)
    if not gone:
        ray_cluster.remove_node(extra)
    assert gone
    assert audit(place) == Audit(aligned=48, doubled=0)
    assert not report.failed
    assert len(report.ended) >= 2


def test_what_was_interrupted_resumes_and_what_is_done_costs_nothing(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(40)

    def interrupt(progress: Progress) -> None:
        if progress.done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(place, on_progress=interrupt)
    rest = align(place)
    assert audit(place) == Audit(aligned=40, doubled=0)
    assert sum(one.resumed for one in rest.results) >= 16
    assert rest.cost.users == sum(not one.resumed for one in rest.results)
    again = align(place)
    assert all(one.resumed for one in again.results)
    assert (again.cost.users, again.cost.usage, again.cost.engine_seconds) == (0, Usage(), 0)
    assert [one.version for one in again.results] == [one.version for one in rest.results]


def test_two_fleets_at_once_disturb_each_other_in_nothing(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(12)
    fleet = Fleet(workers=1, batch=4)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: align(place, fleet=fleet), range(2)))
    assert audit(place) == Audit(aligned=12, doubled=0)
    assert [report.failed for report in reports] == [(), ()]


def test_a_user_who_is_forgotten_meanwhile_is_a_failed_result_and_stays_forgotten(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(24)
    forgotten: list[str] = []

    def forget(progress: Progress) -> None:
        if progress.done and not forgotten:
            with PersonaAgent.open(place, llm=None, embedder="hash") as agent:
                for user in names(24)[8:]:
                    agent.forget(user)
                    forgotten.append(user)

    report = align(place, fleet=Fleet(workers=1, batch=8), on_progress=forget)
    assert [one.user for one in report.failed] == forgotten
    assert all("UnknownUser" in (one.error or "") for one in report.failed)
    with PersonaAgent.open(place, llm=None, embedder="hash") as agent:
        assert agent.users() == names(8)
    assert audit(place) == Audit(aligned=8, doubled=0)


def test_strangers_and_the_young_are_failed_results_and_the_others_are_aligned(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    place = new_users(2)
    with PersonaAgent.open(place, llm=None, embedder="hash") as agent:
        agent.add(events(7, random.Random(0))[:10])
    report = align(place, [name(0), "stranger", name(7), name(1)])
    assert [one.error is None for one in report.results] == [True, False, False, True]
    assert "UnknownUser" in str(report.results[1])
    assert "needs 23" in str(report.results[2])


def test_a_model_that_cannot_be_opened_is_an_error_that_names_it(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    engine = Engine(partial(open_llm, "nonsense"), embedder="hash")
    with pytest.raises(BackendError, match="there is no model backend 'nonsense'"):
        align(new_users(1), engine=engine, fleet=Fleet(workers=1, attempts=1))


def test_an_engine_that_fails_as_a_whole_is_tried_again_and_then_every_user_is_told_why(
    ray_cluster: Any, new_users: Callable[[int], str]
) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    report = align(
        new_users(3),
        engine=Engine(broken, embedder="hash"),
        fleet=Fleet(workers=1, batch=3, attempts=1),
    )
    assert len(report.failed) == 3
    assert all("BackendError: the engine is dead" in (one.error or "") for one in report.failed)
    assert report.cost.users == 0


def test_a_broken_database_is_an_error_before_any_worker_starts() -> None:
    with pytest.raises(StoreError, match=r"nobody@127\.0\.0\.1:1/nothing"):
        align("postgresql://nobody@127.0.0.1:1/nothing")


@pytest.mark.parametrize("place", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_cannot_be_shared(place: str) -> None:
    with pytest.raises(ValueError, match="give a PostgreSQL URL"):
        align(place)


def test_on_one_machine_an_sqlite_file_will_do(ray_cluster: Any, tmp_path: Path) -> None:
    place = populated(str(tmp_path / "persona.db"), 8)
    assert not align(Path(place), fleet=Fleet(workers=2, batch=2)).failed
    assert audit(place) == Audit(aligned=8, doubled=0)


@pytest.mark.parametrize(
    ("place", "machines", "address", "is_refused"),
    [
        ("/data/persona.db", {"one"}, None, False),
        ("/data/persona.db", {"one", "two"}, "one:6379", True),
        ("sqlite:////data/persona.db", {"one", "two"}, "one:6379", True),
        ("/data/persona.db", {"one"}, "ray://one:10001", True),
        ("postgresql://one/persona", {"one", "two"}, "ray://one:10001", False),
    ],
)
def test_an_sqlite_file_is_refused_where_workers_are_elsewhere(
    place: str, machines: set[str], address: str | None, is_refused: bool
) -> None:
    says = "give the URL of a PostgreSQL server"
    with pytest.raises(ValueError, match=says) if is_refused else nullcontext():
        check_machines(place, machines, address)


def test_a_user_named_twice_is_refused(new_users: Callable[[int], str]) -> None:
    with pytest.raises(ValueError, match="named twice"):
        align(new_users(1), [name(0), name(0)])

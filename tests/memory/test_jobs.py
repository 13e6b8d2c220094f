"""Jobs: asked for with the write, done once in effect, tried again, and stopped by forgetting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, insert

from persona_agent.memory.jobs import FIRST_PAUSE, MAX_ATTEMPTS, Commit, Job, Jobs, run_jobs
from persona_agent.memory.schema import jobs, personas, users
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Role, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    """Give an empty store whose writes ask for jobs."""
    with Store.open(where, outbox=("count",)) as opened:
        yield opened


def event(number: int, scope: Scope = ANN, role: Role = "user") -> Interaction:
    return Interaction(scope, NOW, f"q{number}", role=role, id=f"e{number}")


def noting(store: Store, job: Job) -> Commit:
    """Do a job: note it as the next persona of its user."""
    version = len(store.personas(job.scope)) + 1
    row = {"tenant": job.scope.tenant, "user": job.scope.user, "version": version, "created": 0}
    texts = {"origin": "", "note": "", "scores": "{}"}
    document = f"{job.first_seq}-{job.last_seq}"

    def commit(connection: Connection) -> None:
        connection.execute(insert(personas), row | texts | {"document": document})

    return commit


def done(store: Store, scope: Scope = ANN) -> list[str]:
    return [one.document for one in store.personas(scope)]


def at(minutes: float) -> Callable[[], datetime]:
    return lambda: NOW + timedelta(minutes=minutes)


def test_a_write_asks_for_one_job_which_later_writes_widen(store: Store) -> None:
    store.add([event(0), event(1)], now=NOW)
    store.add([event(2)], now=NOW)
    store.update(ANN, "e0", outcome="5", now=NOW)
    (job,) = Jobs(store).list()
    assert (job.scope, job.kind, job.first_seq, job.last_seq) == (ANN, "count", 0, 3)
    assert [one.end for one in run_jobs(store, {"count": noting}, clock=at(0))] == ["done"]
    assert (done(store), Jobs(store).list()) == (["0-3"], [])
    assert run_jobs(store, {"count": noting}, clock=at(0)) == []


def test_only_the_users_own_words_ask_for_jobs(store: Store) -> None:
    store.add([event(0, role="assistant"), event(1, role="tool")], now=NOW)
    store.add([event(2)], now=NOW, trust="import")
    assert Jobs(store).list() == []
    store.add([event(2)], now=NOW)  # a duplicate
    assert Jobs(store).list() == []


def test_a_failed_write_asks_for_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="time zone"):
        store.add([event(0)], now=datetime(2026, 1, 1))
    assert Jobs(store).list() == []


def test_a_job_that_fails_is_tried_later_and_dies_at_last(store: Store) -> None:
    def failing(store: Store, job: Job) -> Commit:
        raise ValueError(f"attempt {job.attempts}")

    store.add([event(0)], now=NOW)
    now = NOW
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (ran,) = run_jobs(store, {"count": failing}, clock=lambda now=now: now)  # type: ignore[misc]
        assert ran.end == ("dead" if attempt == MAX_ATTEMPTS else "retry")
        assert ran.error == f"ValueError: attempt {attempt}"
        assert run_jobs(store, {"count": failing}, clock=lambda now=now: now) == []  # type: ignore[misc]
        now += FIRST_PAUSE * 2 ** (attempt - 1)
    (dead,) = Jobs(store).list(state="dead")
    assert dead.error == f"ValueError: attempt {MAX_ATTEMPTS}"
    assert run_jobs(store, {"count": noting}, clock=at(10_000)) == []
    assert Jobs(store).retry(now, ["other"]) == 0
    assert Jobs(store).retry(now) == 1
    assert [one.end for one in run_jobs(store, {"count": noting}, clock=at(10_000))] == ["done"]


def test_what_fails_at_the_commit_writes_nothing(store: Store) -> None:
    def broken(store: Store, job: Job) -> Commit:
        commit = noting(store, job)

        def and_fail(connection: Connection) -> None:
            commit(connection)
            raise ValueError("after the write")

        return and_fail

    store.add([event(0)], now=NOW)
    assert [one.end for one in run_jobs(store, {"count": broken}, clock=at(0))] == ["retry"]
    assert done(store) == []


def test_an_unknown_kind_is_left_alone(store: Store) -> None:
    store.add([event(0)], now=NOW)
    assert run_jobs(store, {"other": noting}, clock=at(0)) == []
    assert len(Jobs(store).list()) == 1


def test_a_lease_that_ran_out_goes_to_another_and_the_first_writes_nothing(store: Store) -> None:
    store.add([event(0)], now=NOW)
    slow, quick = Jobs(store, worker="slow"), Jobs(store, worker="quick")
    job = slow.claim(["count"], NOW)
    assert job is not None
    assert quick.claim(["count"], NOW) is None
    again = quick.claim(["count"], NOW + timedelta(minutes=2))
    assert again is not None
    assert (again.id, again.attempts) == (job.id, 2)
    assert not slow.extend(job, NOW)
    with pytest.raises(Exception, match="lease ran out"):
        slow.finish(job, noting(store, job))
    assert slow.fail(job, "late", NOW) == "lost"
    quick.finish(again, noting(store, again))
    assert done(store) == ["0-0"]


def test_a_heartbeat_keeps_a_slow_job(store: Store) -> None:
    store.add([event(0)], now=datetime.now(UTC))
    others: list[Job | None] = []

    def slow(store: Store, job: Job) -> Commit:
        threading.Event().wait(0.5)
        others.append(Jobs(store, worker="other").claim(["count"], datetime.now(UTC)))
        return noting(store, job)

    (ran,) = run_jobs(store, {"count": slow}, lease=timedelta(seconds=0.3), limit=1)
    assert (ran.end, others) == ("done", [None])


def test_forgetting_stops_a_job_in_flight_even_if_the_user_comes_back(store: Store) -> None:
    def overtaken(store: Store, job: Job) -> Commit:
        commit = noting(store, job)
        store.delete_all(ANN, NOW)
        store.add([event(7)], now=NOW + timedelta(hours=1))
        return commit

    store.add([event(0)], now=NOW)
    ran = run_jobs(store, {"count": overtaken}, clock=at(0), limit=1)
    assert [one.end for one in ran] == ["lost"]
    assert done(store) == []
    assert [one.id for one in store.get_all(ANN)] == ["e7"]


def test_many_workers_do_each_job_once(store: Store) -> None:
    scopes = [Scope(f"u{i}") for i in range(12)]
    store.add([event(0, scope) for scope in scopes], now=NOW)
    threads = [
        threading.Thread(target=run_jobs, args=(store, {"count": noting}), kwargs={"clock": at(0)})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done(store, scope) for scope in scopes] == [["0-0"]] * 12


def test_a_job_can_be_asked_for(store: Store) -> None:
    store.add([event(0)], now=NOW, trust="import")
    assert Jobs(store).request(ANN, "count", NOW)
    assert not Jobs(store).request(Scope("nobody"), "count", NOW)
    assert [one.kind for one in Jobs(store).list(ANN)] == ["count"]


def load_jobs(store: Store, tenant: str, count: int, minutes: int = 0) -> None:
    """Put jobs of as many users of a tenant into the outbox."""
    due = int((NOW + timedelta(minutes=minutes)).timestamp() * 1_000_000)
    whose = [{"tenant": tenant, "user": f"u{i}"} for i in range(count)]
    head = {"next_seq": 0, "event_count": 0, "epoch": 1, "created": due, "fact_seq": 0}
    job = {"kind": "count", "first_seq": 0, "last_seq": 0, "state": "waiting", "attempts": 0}
    with store.database.write() as connection:
        connection.execute(insert(users), [one | head for one in whose])
        rows = [one | job | {"id": one["user"], "due": due, "created": due} for one in whose]
        connection.execute(insert(jobs), rows)


def test_ten_thousand_jobs_of_one_tenant_keep_nobody_waiting(store: Store) -> None:
    load_jobs(store, "large", 10_000)
    load_jobs(store, "small", 1, minutes=5)
    ran = run_jobs(store, {"count": noting}, clock=at(10), limit=2)
    assert {one.job.scope.tenant for one in ran} == {"large", "small"}


def test_tenants_take_turns_and_each_has_its_oldest_done_first(store: Store) -> None:
    for number, tenant in enumerate("abc"):
        load_jobs(store, tenant, 3 - number)
    store.add([event(0, Scope("first", "a"))], now=NOW - timedelta(days=1))
    ran = run_jobs(store, {"count": noting}, clock=at(0))
    order = "".join(one.job.scope.tenant for one in ran)
    assert (sorted(order[:3]), sorted(order[3:5]), order[5:]) == (["a", "b", "c"], ["a", "b"], "aa")
    assert next(one for one in ran if one.job.scope.tenant == "a").job.scope.user == "first"

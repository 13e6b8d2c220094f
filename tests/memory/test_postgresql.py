"""What goes wrong with a PostgreSQL server, and who writes first: on a real one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from persona_agent.errors import StoreError, UnknownInteraction
from persona_agent.memory.forget import forget
from persona_agent.memory.store import Store
from persona_agent.memory.verify import found_in
from persona_agent.types import MAX_ID_BYTES, Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")


def one(number: int = 0) -> Interaction:
    return Interaction(ANN, NOW, f"query {number}", id=f"e{number}")


@pytest.fixture
def url(new_schema: Callable[[], str]) -> str:
    """Give the URL of an empty schema."""
    return new_schema()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("postgresql://postgres@127.0.0.1:9/x", "start the server"),
        ("postgresql://postgres@/x?host=/nowhere", "start the server"),
        ("postgresql://postgres@no.such.host.invalid/x", "correct the host"),
    ],
)
def test_a_server_that_is_not_there(place: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        Store.open(place)


def test_a_missing_database_or_role(url: str) -> None:
    there = make_url(url)
    wrong = there.set(database="nowhere").render_as_string(hide_password=False)
    with pytest.raises(StoreError, match=r"createdb.*database \"nowhere\" does not exist"):
        Store.open(wrong)
    wrong = there.set(username="nobody").render_as_string(hide_password=False)
    with pytest.raises(StoreError, match="check the user"):
        Store.open(wrong)


def test_a_url_without_a_driver_gets_ours(url: str) -> None:
    for scheme in ("postgresql", "postgres"):
        with Store.open(url.replace("postgresql+psycopg", scheme)) as store:
            store.add([one()], now=NOW)
            assert store.count(ANN) == 1


def test_the_password_is_not_told(url: str) -> None:
    secret = make_url(url).set(password="hush", database="nowhere")
    with pytest.raises(StoreError) as told:
        Store.open(secret.render_as_string(hide_password=False))
    assert "hush" not in str(told.value)


def test_a_read_only_server_is_a_clear_error(url: str) -> None:
    Store.open(url).close()
    options = make_url(url).query["options"]
    read_only = make_url(url).update_query_dict(
        {"options": f"{options} -cdefault_transaction_read_only=on"}
    )
    with Store.open(read_only.render_as_string(hide_password=False)) as store:
        with pytest.raises(StoreError, match=r"read-only.*nothing was stored"):
            store.add([one()], now=NOW)
        assert store.get_all(ANN) == []


def test_another_programs_tables_are_refused_and_left_alone(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER)")
    with pytest.raises(StoreError, match="not a persona_agent database"):
        Store.open(url)
    engine.dispose()


def test_a_writer_who_holds_the_user_makes_others_wait_then_fail(url: str) -> None:
    engine = create_engine(url)
    with Store.open(url, busy_timeout=0.1) as store:
        store.add([one()], now=NOW)
        with engine.connect() as holder:
            holder.exec_driver_sql("SELECT 1 FROM users FOR UPDATE")
            for write in (
                lambda: store.add([one(1)], now=NOW),
                lambda: store.update(ANN, "e0", outcome="5", now=NOW),
                lambda: store.delete(ANN, "e0", NOW),
            ):
                with pytest.raises(StoreError, match=r"locked.*0.1 s"):
                    write()
            assert store.add([Interaction(Scope("bob"), NOW, "x")], now=NOW)[0].event == "ADD"
        assert store.add([one(1)], now=NOW)[0].event == "ADD"
    engine.dispose()


def test_a_connection_that_breaks_is_told_and_the_next_write_works(url: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with Store.open(url) as store:
        store.add([one()], now=NOW)
        with engine.connect() as other:
            other.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        with pytest.raises(StoreError, match="broke the connection; try again"):
            store.add([one(1)], now=NOW)
        assert store.add([one(1)], now=NOW)[0].event == "ADD"
    engine.dispose()


def test_concurrent_deletes_of_one_event_delete_it_once(url: str) -> None:
    with Store.open(url) as store:
        store.add([one(i) for i in range(20)], now=NOW)
        deleted: list[int] = []

        def work() -> None:
            for i in range(20):
                try:
                    store.delete(ANN, f"e{i}", NOW)
                    deleted.append(i)
                except UnknownInteraction:
                    pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(deleted) == list(range(20))
        assert store.count(ANN) == 0


def test_the_longest_ids_are_indexed(url: str) -> None:
    scope = Scope("u" * MAX_ID_BYTES, "t" * MAX_ID_BYTES)
    longest = Interaction(scope, NOW, "q", id="i" * MAX_ID_BYTES)
    with Store.open(url) as store:
        store.add([longest], now=NOW)
        assert store.get(scope, longest.id) == longest


def bytes_of(url: str) -> list[Path]:
    """Return the files of the server's tables, with all that is in memory written to them."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
        folder = connection.exec_driver_sql("SHOW data_directory").scalar_one()
    engine.dispose()
    return [one for one in (Path(folder) / "base").rglob("*") if one.is_file()]


def test_a_full_vacuum_takes_the_bytes_of_the_forgotten_away(url: str) -> None:
    canary = "canary " + make_url(url).query["options"].split("=")[1]  # type: ignore[union-attr]
    with Store.open(url) as store:
        for user in ("bob", "ann", "carl"):
            texts = [f"{canary} {user} {i}" for i in range(50)]
            store.add([Interaction(Scope(user), NOW, text) for text in texts], now=NOW)
        assert list(found_in(bytes_of(url), [f"{canary} ann"]))
        receipt = forget(store, ANN, NOW, vacuum="full")
        assert receipt.vacuumed == "full"
        assert not any("space" in one for one in receipt.beyond_reach)
        assert list(found_in(bytes_of(url), [f"{canary} ann"])) == []
        assert list(found_in(bytes_of(url), [f"{canary} bob"]))
        assert store.count(Scope("carl")) == 50
        plain = forget(store, Scope("bob"), NOW)
        assert plain.vacuumed == "plain"
        assert any("freed space" in one for one in plain.beyond_reach)
        assert "vacuumed (plain)" in str(plain)
        assert forget(store, Scope("nobody"), NOW).vacuumed is None


def test_a_role_that_does_not_own_the_tables_is_told_that_nothing_was_vacuumed(url: str) -> None:
    with Store.open(url) as store:
        store.add([one()], now=NOW)
        schema = make_url(url).query["options"].split("=")[1]  # type: ignore[union-attr]
        role = f"guest_{schema}"
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
            connection.exec_driver_sql(f"GRANT ALL ON SCHEMA {schema} TO {role}")
            connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        engine.dispose()
        there = make_url(url).set(username=role).render_as_string(hide_password=False)
        with Store.open(there) as guest:
            receipt = forget(guest, ANN, NOW)
        assert (receipt.rows["events"], receipt.vacuumed) == (1, None)
        assert any("may not do" in one for one in receipt.beyond_reach)

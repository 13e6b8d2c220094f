"""Keys: only the right token finds one, a revoked one is nobody's, and no secret is stored."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from persona_agent.memory.api_keys import ApiKeys
from persona_agent.memory.forget import forget
from persona_agent.memory.store import Store
from persona_agent.types import Scope

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_a_token_finds_its_key_and_nothing_near_it_does(store: Store) -> None:
    keys = ApiKeys(store)
    new = keys.create(NOW, tenant="acme", user="ann", scopes=["operator"], name="laptop")
    assert keys.find(new.token) == new.key
    assert (new.key.user, new.key.tenant, new.key.scopes) == ("ann", "acme", ("operator",))
    other = keys.create(NOW, scopes=["many-users"]).token
    swapped = "_".join([*new.token.split("_")[:2], other.split("_", 2)[2]])
    for wrong in (new.token[:-1], new.token + "a", swapped, "", "pa_", "pa_\x00_x", "päx_1_2"):
        assert keys.find(wrong) is None


def test_the_secret_is_not_stored(store: Store) -> None:
    token = ApiKeys(store).create(NOW, user="ann").token
    with store.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert len(rows) == 1
    assert token.split("_", 2)[2] not in str(rows)


def test_a_revoked_key_is_found_no_more_and_revoked_once(store: Store) -> None:
    keys = ApiKeys(store)
    new = keys.create(NOW, user="ann", tenant="acme")
    assert not keys.revoke(new.key.id, NOW, tenant="other")
    assert keys.revoke(new.key.id, NOW, tenant="acme")
    assert not keys.revoke(new.key.id, NOW)
    assert keys.find(new.token) is None
    assert [one.revoked for one in keys.list("acme")] == [NOW]
    assert keys.list("other") == []


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"scopes": ["root"]}, "unknown scopes root"),
        ({"user": "ann", "scopes": ["many-users"]}, "one of both"),
        ({}, "could do nothing"),
        ({"user": ""}, "user id is empty"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(wanted: dict[str, object], why: str) -> None:
    with Store.open(":memory:") as store, pytest.raises(ValueError, match=why):
        ApiKeys(store).create(NOW, **wanted)  # type: ignore[arg-type]  # what is wrong with it


def test_forgetting_a_user_takes_the_keys_that_were_bound_to_that_user(store: Store) -> None:
    keys = ApiKeys(store)
    gone, stays = keys.create(NOW, user="ann"), keys.create(NOW, scopes=["many-users"])
    assert forget(store, Scope("ann"), NOW).rows["api_keys"] == 1
    assert keys.find(gone.token) is None
    assert keys.find(stays.token) == stays.key

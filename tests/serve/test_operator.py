"""Operators' routes: who is known, found by how ids begin, page by page."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.serve.conftest import Running


@pytest.fixture
def web(server: Running) -> Iterator[httpx.Client]:
    """A client that may act for many and is an operator."""
    with server.client() as opened:
        yield opened


def listed(web: httpx.Client, **query: str | int) -> tuple[list[str], str | None]:
    told = web.get("/v1/operator/users", params=query)
    assert told.status_code == 200, told.text
    return [one["user_id"] for one in told.json()["results"]], told.json()["next"]


def remember(web: httpx.Client, user: str, *texts: str) -> None:
    memories = [{"query": text} for text in texts]
    told = web.post("/v1/memories", json={"user_id": user, "memories": memories})
    assert told.status_code == 200


def test_users_are_found_by_how_their_ids_begin_page_by_page(web: httpx.Client) -> None:
    for user in ("ann", "anna", "ANNE", "an%", "an_", "bo", "ärin"):
        remember(web, user, "I drink tea")
    assert listed(web, starting="ann") == (["ann", "anna"], None)
    assert listed(web, starting="an%") == (["an%"], None)
    assert listed(web, starting="ä") == (["ärin"], None)
    assert listed(web, starting="nobody") == ([], None)
    first, cursor = listed(web, starting="an", limit=2)
    rest, end = listed(web, starting="an", limit=2, cursor=cursor or "")
    assert (sorted(first + rest), end) == (["an%", "an_", "ann", "anna"], None)


def test_a_user_is_told_in_numbers(web: httpx.Client) -> None:
    remember(web, "ann", "I drink tea", "I read")
    assert web.put("/v1/users/ann/persona", json={"lines": ["Drinks tea"]}).status_code == 200
    (told,) = web.get("/v1/operator/users").json()["results"]
    assert (told["memories"], told["facts"], told["persona_version"]) == (2, 0, 2)
    assert told["latest"] is not None


def test_a_key_that_is_no_operators_finds_no_such_route(server: Running) -> None:
    with server.client(server.key("many-users")) as web:
        assert web.get("/v1/operator/users").status_code == 404

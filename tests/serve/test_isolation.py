"""Nobody gets at what is not theirs: wrong keys, other tenants' keys, foreign ids, forged headers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve.conftest import Running

CANARY = "canary of ann 5f2c"
FORGED = {
    "x-persona-user": "ann",
    "x-litellm-end-user-id": "ann",
    "x-openwebui-user-id": "ann",
    "x-persona-tenant": "acme",
}


@pytest.fixture
def known(server: Running) -> str:
    """The id of a memory of ann of tenant acme, who has a persona and an operation, too."""
    with server.client(server.key(user="ann", tenant="acme")) as web:
        told = web.post("/v1/memories", json={"memories": [{"query": CANARY, "id": "secret-1"}]})
        assert web.put("/v1/users/ann/persona", json={"lines": [CANARY]}).status_code == 200
        operation = web.post("/v1/users/ann/persona/align").json()["id"]
    assert told.json()["results"][0]["event"] == "ADD"
    return str(operation)


def requests_about(user: str, operation: str) -> list[tuple[str, str, Any]]:
    """Return requests that name a user or what belongs to that user."""
    home = f"/v1/users/{user}"
    return [
        ("GET", f"/v1/memories?user_id={user}", None),
        ("POST", "/v1/memories/search", {"query": "canary", "user_id": user}),
        ("POST", "/v1/memories", {"memories": [{"query": "forged"}], "user_id": user}),
        ("GET", f"/v1/memories/secret-1?user_id={user}", None),
        ("GET", f"/v1/memories/secret-1/history?user_id={user}", None),
        ("PATCH", "/v1/memories/secret-1", {"query": "forged", "user_id": user}),
        ("DELETE", f"/v1/memories/secret-1?user_id={user}", None),
        ("POST", "/v1/feedback", {"id": "secret-1", "outcome": "forged", "user_id": user}),
        ("GET", f"{home}/persona", None),
        ("PUT", f"{home}/persona", {"lines": ["forged"]}),
        ("GET", f"{home}/persona/versions", None),
        ("GET", f"{home}/persona/diff", None),
        ("POST", f"{home}/persona/rollback", {"version": 1}),
        ("POST", f"{home}/persona/lock", {"line": "forged", "locked": True}),
        ("POST", f"{home}/persona/align", {}),
        ("GET", f"{home}/context?query=canary", None),
        ("GET", f"{home}/facts", None),
        ("GET", f"{home}/export", None),
        ("GET", f"{home}/operations", None),
        ("DELETE", f"{home}", None),
        ("GET", f"/v1/operations/{operation}", None),
        ("GET", f"/v1/operations/{operation}/events", None),
    ]


def snapshot(server: Running) -> Any:
    with server.client(server.key(user="ann", tenant="acme")) as web:
        return [
            web.get(path).json()
            for path in ("/v1/memories", "/v1/users/ann/persona", "/v1/users/ann/operations")
        ]


@pytest.mark.parametrize("tenant", ["acme", "other"])
def test_a_key_of_somebody_else_gets_404_and_changes_nothing(
    server: Running, known: str, tenant: str
) -> None:
    before = snapshot(server)
    with server.client(server.key(user="bob", tenant=tenant), **FORGED) as web:
        for method, path, body in requests_about("ann", known):
            told = web.request(method, path, json=body)
            assert told.status_code == 404, (method, path, told.text)
            assert CANARY not in told.text
        said = web.post(
            "/v1/chat/completions",
            json={"model": "m", "user": "ann", "messages": [{"role": "user", "content": "canary"}]},
        )
        assert said.headers["x-persona-memories"] == ""
    server.settle()
    assert snapshot(server) == before


def test_a_key_for_many_users_of_another_tenant_finds_nothing(server: Running, known: str) -> None:
    before = snapshot(server)
    with server.client(server.key("many-users", "operator", tenant="other"), **FORGED) as web:
        for method, path, body in requests_about("ann", known):
            told = web.request(method, path, json=body)
            assert CANARY not in told.text, (method, path)
        for path in ("users", "jobs", "operations", "keys", "cost"):
            assert "ann" not in [
                one.get("user_id") or one.get("user")
                for one in web.get(f"/v1/operator/{path}").json().get("results", [])
                if path != "users"
            ]
    assert snapshot(server) == before


@pytest.mark.parametrize("key", ["none", "wrong", "revoked", "operator"])
def test_a_key_that_may_not_gets_nothing(server: Running, known: str, key: str) -> None:
    before = snapshot(server)
    operator = server.key("operator")
    token = {"none": "", "wrong": "pa_0123456789ab_guess"}.get(key, operator)
    if key == "revoked":
        assert server.service.keys.revoke(token.split("_")[1], server.service.now())
    with server.client(token, **FORGED) as web:
        for method, path, body in requests_about("ann", known):
            told = web.request(method, path, json=body)
            allowed = (404, 400) if key == "operator" else (401,)
            assert told.status_code in allowed, (method, path, told.text)
            assert CANARY not in told.text
    assert snapshot(server) == before


def test_operators_routes_are_not_there_for_others(server: Running, known: str) -> None:
    with server.client(server.key("many-users", tenant="acme")) as web:
        for path in ("users", "jobs", "operations", "keys", "cost"):
            assert web.get(f"/v1/operator/{path}").status_code == 404
    with server.client(server.key("operator", tenant="acme")) as web:
        assert [one["user_id"] for one in web.get("/v1/operator/users").json()["results"]] == [
            "ann"
        ]
        assert web.get("/v1/operator/cost").json()["alignments"] == 0


def test_a_foreign_id_and_an_unknown_one_are_told_in_the_same_words(
    server: Running, known: str
) -> None:
    with server.client(server.key(user="bob", tenant="acme")) as web:
        foreign = web.get("/v1/users/ann/persona").json()["error"]["message"]
        unknown = web.get("/v1/users/zoe/persona").json()["error"]["message"]
    assert foreign.replace("ann", "zoe") == unknown

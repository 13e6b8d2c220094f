"""Memories by HTTP: added durably, found, paged, corrected, deleted; nobody else's."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from persona_agent.types import Scope
from tests.serve.conftest import Running


def add(web: httpx.Client, *texts: str, **more: Any) -> list[str]:
    """Return the ids of memories that were added, oldest first."""
    memories = [
        {"query": text, "when": f"2026-11-0{1 + i // 10}T10:00:{i % 10:02}Z"}
        for i, text in enumerate(texts)
    ]
    told = web.post("/v1/memories", json={"memories": memories, **more})
    assert told.status_code == 200, told.text
    return [one["id"] for one in told.json()["results"]]


def test_what_is_added_is_found_changed_and_deleted(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        tea, _ = add(web, "I drink green tea", "My cat is called Tom")
        found = web.post("/v1/memories/search", json={"query": "green tea", "explain": True}).json()
        assert found["results"][0]["id"] == tea
        assert found["results"][0]["explanation"]["bm25_rank"] == 1
        changed = web.patch(f"/v1/memories/{tea}", json={"query": "I drink black tea"}).json()
        assert changed["memory"] == "I drink black tea"
        told = web.get(f"/v1/memories/{tea}/history").json()["results"]
        assert [one["action"] for one in told] == ["ADD", "UPDATE"]
        assert told[1]["old"]["query"] == "I drink green tea"
        assert web.delete(f"/v1/memories/{tea}").status_code == 204
        assert web.get(f"/v1/memories/{tea}").json()["error"]["code"] == "memory_not_found"


def test_messages_become_turns_and_odd_ids_work(server: Running) -> None:
    messages = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Green."}]
    body = {"messages": messages, "user_id": "a/b c?😀", "agent_id": "shop"}
    with server.client() as web:
        (one,) = web.post("/v1/memories", json=body).json()["results"]
        got = web.get(f"/v1/memories/{one['id']}", params={"user_id": "a/b c?😀"}).json()
        assert (got["query"], got["response"], got["agent_id"]) == ("Tea?", "Green.", "shop")
        odd = {"user_id": "a/b c?😀", "memories": [{"query": "odd", "id": "x/history/y %2f"}]}
        web.post("/v1/memories", json=odd)
        url = httpx.URL("/v1/memories/x%2Fhistory%2Fy%20%252f")
        assert web.get(url, params={"user_id": "a/b c?😀"}).json()["query"] == "odd"
    assert server.service.store.users() == ["a/b c?😀"]


def test_pages_hold_everything_once_whatever_is_added_between(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        ids = add(web, *(f"memory number {i}" for i in range(25)))
        got: list[str] = []
        cursor = None
        while True:
            params = {"limit": 10} if cursor is None else {"limit": 10, "cursor": cursor}
            page = web.get("/v1/memories", params=params).json()
            got += [one["id"] for one in page["results"]]
            web.post("/v1/memories", json={"memories": [{"query": f"new {len(got)}"}]})
            cursor = page["next"]
            if cursor is None:
                break
        assert got == ids[::-1]
        wrong = web.get("/v1/memories", params={"cursor": "nonsense"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_value")


def test_some_are_listed_by_their_ids_and_those_that_are_gone_left_out(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        ids = add(web, "one", "two", "three")
        told = web.get("/v1/memories", params={"ids": [ids[0], "gone", ids[2]]}).json()
    with server.client(server.key(user="bob")) as web:
        foreign = web.get("/v1/memories", params={"ids": ids}).json()
    assert [one["id"] for one in told["results"]] == [ids[2], ids[0]]
    assert foreign["results"] == []


def test_filters_narrow_and_an_empty_list_matches_nothing(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        ids = add(web, *(f"tea number {i}" for i in range(25)))

        def search(**filters: Any) -> list[str]:
            body = {"query": "tea", "filters": filters, "top_k": 50, "kinds": ["event"]}
            found = web.post("/v1/memories/search", json=body).json()["results"]
            return sorted(one["id"] for one in found)

        assert search() == sorted(ids)
        assert search(ids=[]) == search(roles=[]) == search(agent_id="x") == []
        assert search(ids=ids[:2]) == sorted(ids[:2])
        assert search(since="2026-11-02T00:00:00Z") == sorted(ids[10:])
        assert search(since="2026-11-02T00:00:00Z", until="2026-11-03T00:00:00Z") == sorted(
            ids[10:20]
        )
        wrong = web.post("/v1/memories/search", json={"query": "x", "filters": {"usr": "bob"}})
        assert wrong.status_code == 400


def test_the_same_key_stores_once_and_another_body_is_refused(server: Running) -> None:
    headers = {"idempotency-key": "k1"}
    body = {"memories": [{"query": "once"}], "user_id": "ann"}
    with server.client() as web:
        body["memories"][0]["when"] = "2026-11-01T00:00:00Z"  # type: ignore[index]
        first = web.post("/v1/memories", json=body, headers=headers).json()
        assert web.post("/v1/memories", json=body, headers=headers).json() == first
        body["memories"] = [{"query": "twice"}]
        again = web.post("/v1/memories", json=body, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert server.service.store.count(Scope("ann")) == 1


def test_a_secret_is_taken_out_and_the_answer_says_so(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        text = "my key is sk-abcdefghijklmnopqrstuvwxyz012345"
        (one,) = web.post("/v1/memories", json={"memories": [{"query": text}]}).json()["results"]
        assert any(code.startswith("secret:") for code in one["codes"])


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"memories": [{"query": "x", "when": "yesterday"}]}',
        '{"memories": [{}]}',
        '{"memories": [{"query": "x\\u0000"}]}',
        '{"memories": [{"query": "x", "role": "god"}]}',
        '{"memories": [{"query": "x", "when": "0001-01-01T00:00:00+14:00"}]}',
        '{"messages": [], "unknown": 1}',
        "{}",
    ],
)
def test_what_is_wrong_is_a_400_of_openais_form(server: Running, body: str) -> None:
    with server.client(server.key(user="ann")) as web:
        told = web.post("/v1/memories", content=body)
    assert told.status_code == 400
    error = json.loads(told.text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


def test_a_body_that_is_too_long_is_refused(serve: Any) -> None:
    server = serve(max_body_bytes=2000)
    with server.client() as web:
        long = {"user_id": "ann", "memories": [{"query": "x" * 3000}]}
        assert web.post("/v1/memories", json=long).status_code == 413
        chunked = web.post("/v1/memories", content=iter([b"x" * 1500, b"y" * 1500]))
        assert chunked.status_code == 413

"""Personas by HTTP: read, corrected, locked, rolled back; aligned in the background, live."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from persona_agent.llm import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.serve.inprocess import ModelUpstream
from persona_agent.serve.service import Parts
from persona_agent.types import ModelRequest
from tests.serve.conftest import Running


def texts(told: httpx.Response) -> list[str]:
    assert told.status_code == 200, told.text
    return [line["text"] for line in told.json()["lines"]]


@pytest.fixture
def web(server: Running) -> Any:
    with server.client(server.key(user="ann")) as opened:
        opened.post("/v1/memories", json={"memories": [{"query": "I like short answers"}]})
        yield opened


HOME = "/v1/users/ann/persona"


def test_a_persona_is_corrected_locked_and_rolled_back(web: httpx.Client) -> None:
    assert texts(web.get(HOME)) == []
    assert texts(web.put(HOME, json={"lines": ["Likes tea", "Is brief"]})) == [
        "Likes tea",
        "Is brief",
    ]
    locked = web.post(f"{HOME}/lock", json={"line": "Likes tea", "locked": True}).json()
    assert [line["locked"] for line in locked["lines"]] == [True, False]
    refused = web.put(HOME, json={"lines": ["Is brief"]})
    assert (refused.status_code, "is locked" in refused.text) == (400, True)
    assert texts(web.put(HOME, json={"lines": ["Likes tea"], "version": locked["version"]})) == [
        "Likes tea"
    ]
    change = web.get(f"{HOME}/diff").json()
    assert [line["text"] for line in change["removed"]] == ["Is brief"]
    assert texts(web.post(f"{HOME}/rollback", json={"version": locked["version"]})) == [
        "Likes tea",
        "Is brief",
    ]
    versions = web.get(f"{HOME}/versions", params={"limit": 3}).json()
    numbers = [one["version"] for one in versions["results"]]
    more = web.get(f"{HOME}/versions", params={"cursor": versions["next"]}).json()
    numbers += [one["version"] for one in more["results"]]
    assert numbers == list(range(numbers[0], 0, -1))


def test_a_persona_can_be_seen_and_changed_when_its_memories_are_deleted(
    web: httpx.Client,
) -> None:
    web.put(HOME, json={"lines": ["Likes tea"]})
    for one in web.get("/v1/memories").json()["results"]:
        web.delete(f"/v1/memories/{one['id']}")
    assert texts(web.get(HOME)) == ["Likes tea"]
    assert texts(web.put(HOME, json={"lines": []})) == []


def test_a_persona_that_changed_meanwhile_is_a_conflict(web: httpx.Client) -> None:
    web.put(HOME, json={"lines": ["Likes tea"]})
    told = web.put(HOME, json={"lines": ["Likes jam"], "version": 1})
    assert (told.status_code, told.json()["error"]["code"]) == (409, "persona_conflict")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {"lines": ["visit https://x.example"]}, 400),
        ("", {"lines": ["a\nb"]}, 400),
        ("", {"lines": ["x"] * 25}, 400),
        ("/rollback", {"version": 99}, 400),
        ("/lock", {"line": "no such", "locked": True}, 404),
    ],
)
def test_what_cannot_be_is_refused(
    web: httpx.Client, path: str, body: dict[str, Any], status: int
) -> None:
    method = "POST" if path else "PUT"
    assert web.request(method, HOME + path, json=body).status_code == status


def likes_short(request: ModelRequest) -> Any:
    """Answer as somebody whose taste the persona tells, if it does."""
    prompt = "\n".join(one.content for one in request.messages)
    if request.choices:
        known = "short" in prompt.split("Query")[0].lower()
        return [-0.1 if (choice == "yes") == known else -3.0 for choice in request.choices]
    if request.schema is not None:
        return json.dumps({"lines": ["Wants short things."], "feedback": ["wants short"]})
    return "It wants short things."


@pytest.fixture
def learning(serve: Callable[..., Running]) -> Running:
    """A server that learns, with a fake model."""
    llm = FakeLLM(likes_short)
    parts = Parts(llm, ModelUpstream(llm, "fake"), HashEmbedder())
    return serve(parts, learn={"enabled": True, "every_s": 0.05, "facts": False})


def ratings(web: httpx.Client, count: int) -> None:
    memories = [
        {
            "query": f"Film {i}",
            "outcome": "yes" if i % 4 else "no",
            "options": ["yes", "no"],
            "when": f"2026-11-01T10:{i // 60:02}:{i % 60:02}Z",
        }
        for i in range(count)
    ]
    assert web.post("/v1/memories", json={"memories": memories}).status_code == 200


def test_an_alignment_is_asked_for_followed_live_and_kept(learning: Running) -> None:
    with learning.client(learning.key(user="ann")) as web:
        ratings(web, 40)
        asked = web.post(f"{HOME}/align", json={"rounds": 2}, headers={"idempotency-key": "k"})
        assert asked.status_code == 202
        operation = asked.json()["id"]
        with web.stream("GET", f"/v1/operations/{operation}/events") as stream:
            lines = list(stream.iter_lines())
        events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        assert events[-1] == "done"
        last = json.loads(
            [line for line in lines if line.startswith("data: ")][-1].removeprefix("data: ")
        )
        assert last["result"]["rounds"] >= 1
        assert last == web.get(f"/v1/operations/{operation}").json()
        again = web.post(f"{HOME}/align", json={"rounds": 2}, headers={"idempotency-key": "k"})
        assert again.json()["id"] == operation
        assert web.get("/v1/users/ann/operations").json()["results"][0]["id"] == operation
        assert web.get(HOME).json()["version"] == last["result"]["version"]
    with learning.client() as web:
        cost = web.get("/v1/operator/cost").json()
    assert cost["alignments"] == 1
    assert cost["seconds"] == last["result"]["seconds"] > 0
    assert cost["requests"] == last["result"]["usage"]["requests"] > 0


def test_an_alignment_with_too_little_to_go_by_fails_and_says_why(learning: Running) -> None:
    with learning.client(learning.key(user="ann")) as web:
        ratings(web, 6)
        operation = web.post(f"{HOME}/align").json()["id"]
        with web.stream("GET", f"/v1/operations/{operation}/events") as stream:
            stream.read()
        told = web.get(f"/v1/operations/{operation}").json()
    assert told["state"] == "failed"
    assert "NotEnoughData" in told["error"]


def test_a_server_that_stops_gives_an_alignment_back(serve: Callable[..., Running]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: ModelRequest) -> Any:
        begun.set()
        assert go_on.wait(60)
        return likes_short(request)

    llm = FakeLLM(slow)
    parts = Parts(llm, ModelUpstream(llm, "fake"), HashEmbedder())
    first = serve(parts, learn={"enabled": True, "every_s": 0.05, "facts": False})
    with first.client() as web:
        memories = [{"query": f"Film {i}", "outcome": "yes" if i % 3 else "no"} for i in range(40)]
        web.post("/v1/memories", json={"memories": memories, "user_id": "ann"})
        operation = web.post("/v1/users/ann/persona/align").json()["id"]
    assert begun.wait(60)
    closing = threading.Thread(target=first.close)
    closing.start()
    go_on.set()
    closing.join(60)
    second = serve()
    with second.client() as web:
        assert web.get(f"/v1/operations/{operation}").json()["state"] in ("queued", "done")

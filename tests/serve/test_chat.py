"""Chat through the server: OpenAI's own client, the user's memory in the prompt, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from persona_agent.persona import Persona, PersonaLine
from persona_agent.types import Scope
from tests.serve.conftest import Running

MESSAGES: list[Any] = [{"role": "user", "content": "What tea do I like?"}]


def client(server: Running, user: str = "ann", **given: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=server.key("many-users"),
        default_headers={"X-Persona-User": user},
        max_retries=0,
        **given,
    )


def test_what_was_said_is_remembered_and_in_the_next_prompt(
    server: Running, seen: list[dict[str, Any]]
) -> None:
    with client(server) as sdk:
        first = sdk.chat.completions.with_raw_response.create(
            model="stub", messages=[{"role": "user", "content": "I drink green tea from Uji."}]
        )
        assert first.headers["x-persona-memory"] == "none"
        assert first.parse().choices[0].message.content == "You said: I drink green tea from Uji."
        server.settle()
        second = sdk.chat.completions.with_raw_response.create(model="stub", messages=MESSAGES)
    turn = first.headers["x-persona-turn"]
    assert second.headers["x-persona-memory"] == "used"
    assert second.headers["x-persona-memories"] == turn
    kept = server.service.store.get(Scope("ann"), turn)
    assert (kept.query, kept.response) == (
        "I drink green tea from Uji.",
        "You said: I drink green tea from Uji.",
    )
    sent = seen[-1]["body"]["messages"]
    assert [one["role"] for one in sent] == ["system", "user"]
    assert "green tea from Uji" in sent[0]["content"]
    assert "<memories>" in sent[0]["content"]
    assert sent[1] == MESSAGES[0]


def test_the_persona_is_in_the_prompt_and_its_version_in_the_answer(
    server: Running, seen: list[dict[str, Any]]
) -> None:
    agent = server.service.agent("default")
    agent.add("Hello, I am new here.", user_id="ann")
    line = PersonaLine("Answers should be short.")
    server.service.personas.save(Persona(Scope("ann"), (line,), 1, origin="user"))
    with client(server) as sdk:
        told = sdk.chat.completions.with_raw_response.create(
            model="stub", messages=[{"role": "system", "content": "You sell tea."}, *MESSAGES]
        )
    assert told.headers["x-persona-version"] == "1"
    system = seen[-1]["body"]["messages"][0]["content"]
    assert system.startswith("You sell tea.\n\n")
    assert "- Answers should be short." in system


def test_a_stream_comes_through_and_is_remembered(server: Running) -> None:
    with (
        client(server) as sdk,
        sdk.chat.completions.create(model="stub", messages=MESSAGES, stream=True) as stream,
    ):
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        turn = stream.response.headers["x-persona-turn"]
    assert text == "You said: What tea do I like?"
    server.settle()
    assert server.service.store.get(Scope("ann"), turn).response == text


def test_nothing_of_ours_reaches_the_upstream(server: Running, seen: list[dict[str, Any]]) -> None:
    body = {"model": "stub", "messages": MESSAGES, "cache_salt": "mine", "top_k": 3, "user": "ann"}
    headers = {"x-persona-agent": "shop", "x-litellm-end-user-id": "ann", "cookie": "a=b"}
    with server.client(server.key("many-users"), **headers) as web:
        assert web.post("/v1/chat/completions", json=body).status_code == 200
    (one,) = seen
    assert one["headers"]["authorization"] == "Bearer the-upstreams-key"
    assert not [name for name in one["headers"] if "persona" in name or "litellm" in name]
    assert "cookie" not in one["headers"]
    assert one["body"] == {"model": "stub", "messages": MESSAGES, "top_k": 3, "user": "ann"}


@pytest.mark.parametrize(
    ("key", "headers", "body", "status", "code"),
    [
        ("", {}, {}, 401, "invalid_api_key"),
        ("pa_000000000000_x", {}, {}, 401, "invalid_api_key"),
        ("many", {}, {}, 400, "user_required"),
        ("many", {"x-persona-user": "bob"}, {}, 200, None),
        ("many", {}, {"user": "bob"}, 200, None),
        ("many", {}, {"safety_identifier": "bob"}, 200, None),
        ("many", {}, {"metadata": {"user_id": "bob"}}, 200, None),
        ("many", {}, {"user": 7}, 400, "invalid_value"),
        ("operator", {"x-persona-user": "bob"}, {}, 400, "user_required"),
        ("ann", {"x-persona-user": "bob"}, {"user": "bob"}, 200, None),
    ],
)
def test_who_the_user_is(
    server: Running,
    key: str,
    headers: dict[str, str],
    body: dict[str, Any],
    status: int,
    code: str | None,
) -> None:
    makers: dict[str, Callable[[], str]] = {
        "many": lambda: server.key("many-users"),
        "operator": lambda: server.key("operator"),
        "ann": lambda: server.key(user="ann"),
    }
    token = makers[key]() if key in makers else key
    with server.client(token, **headers) as web:
        told = web.post(
            "/v1/chat/completions", json={"model": "stub", "messages": MESSAGES, **body}
        )
    assert told.status_code == status, told.text
    if code is not None:
        assert told.json()["error"]["code"] == code
        return
    server.settle()
    whose = "ann" if key == "ann" else "bob"
    assert server.service.store.users() == [whose]

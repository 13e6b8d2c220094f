"""OpenAI's own client, sync and async: streams, tools, structured output, embeddings, errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.serve.conftest import ADMIN, Running

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Drink(BaseModel):
    """What is drunk."""

    name: str


@pytest.fixture
def sdk(server: Running) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN, max_retries=0) as client:
        yield client


def test_tools_pass_through_and_the_answer_after_them_is_of_the_same_turn(
    server: Running, sdk: openai.OpenAI, seen: list[dict[str, Any]]
) -> None:
    asked: list[Any] = [{"role": "user", "content": "How is the weather?"}]
    first = sdk.chat.completions.create(
        model="stub", messages=asked, tools=[TOOL], tool_choice="auto", user="ann"
    )
    (call,) = first.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Oslo"}  # type: ignore[union-attr]
    message = first.choices[0].message.model_dump(exclude_none=True)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    whole = sdk.chat.completions.with_raw_response.create(
        model="stub", messages=[*asked, message, result], tools=[TOOL], user="ann"
    )
    second = whole.parse()
    assert second.choices[0].message.content == "You said: sun"
    assert "x-persona-turn" not in whole.headers  # it began before
    assert seen[1]["body"]["messages"][-2]["tool_calls"][0]["id"] == "call_1"
    server.settle()
    kept = server.service.store.get_all(server.service.agent("default").persona("ann").scope)
    told = [("How is the weather?", "You said: sun")]
    assert [(one.query, one.response) for one in kept] == told
    answer = second.choices[0].message.model_dump(exclude_none=True)
    more = [*asked, message, result, answer, {"role": "user", "content": "Thanks!"}]
    sdk.chat.completions.create(model="stub", messages=more, user="ann")
    server.settle()
    assert server.service.store.get(kept[0].scope, kept[0].id).outcome == "accepted"


def test_structured_output_passes_through(sdk: openai.OpenAI, seen: list[dict[str, Any]]) -> None:
    told = sdk.chat.completions.parse(
        model="stub",
        messages=[{"role": "user", "content": "tea"}],
        response_format=Drink,
        user="ann",
    )
    assert told.choices[0].message.parsed == Drink(name="tea")
    assert seen[0]["body"]["response_format"]["json_schema"]["strict"] is True


def test_the_async_client_streams_for_many_users_at_once(server: Running) -> None:
    async def talk(client: openai.AsyncOpenAI, user: str) -> str:
        stream = await client.chat.completions.create(
            model="stub",
            messages=[{"role": "user", "content": f"I am {user}"}],
            stream=True,
            user=user,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=ADMIN, max_retries=0) as client:
            return await asyncio.gather(*(talk(client, f"user {i}") for i in range(16)))

    assert asyncio.run(all_of_them()) == [f"You said: I am user {i}" for i in range(16)]
    server.settle()
    for number in range(16):
        scope = server.service.agent("default").persona(f"user {number}").scope
        (one,) = server.service.store.get_all(scope)
        assert one.response == f"You said: I am user {number}"


def test_embeddings_by_the_memorys_model_and_by_the_upstream(sdk: openai.OpenAI) -> None:
    names = [one.id for one in sdk.models.list()]
    assert names == ["stub", "hash-256"]
    own = sdk.embeddings.create(model="hash-256", input=["tea", "jam"])
    assert [len(one.embedding) for one in own.data] == [256, 256]
    floats = sdk.embeddings.create(model="hash-256", input="tea", encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(own.data[0].embedding, abs=1e-6)
    theirs = sdk.embeddings.create(model="other", input="tea", encoding_format="float")
    assert theirs.data[0].embedding == [0.6, 0.8]


def test_errors_are_what_the_client_knows(server: Running, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="names no user"):
        sdk.chat.completions.create(model="stub", messages=[{"role": "user", "content": "x"}])
    wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="pa_0_1", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError) as told:
        wrong.models.list()
    assert told.value.code == "invalid_api_key"


def test_what_was_said_is_rated_by_the_turns_id(server: Running, sdk: openai.OpenAI) -> None:
    told = sdk.chat.completions.with_raw_response.create(
        model="stub", messages=[{"role": "user", "content": "Tea?"}], user="ann"
    )
    turn = told.headers["x-persona-turn"]
    with server.client() as web:
        body = {"id": turn, "outcome": "rejected", "user_id": "ann", "comment": "no"}
        rated = web.post("/v1/feedback", json=body).json()
    assert (rated["id"], rated["outcome"], rated["metadata"]["comment"]) == (turn, "rejected", "no")

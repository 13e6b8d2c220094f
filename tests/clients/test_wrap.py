"""wrap: every way of the SDK to ask knows the user, is remembered, and survives its memory."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import persona_agent
from persona_agent.agent import PersonaAgent
from persona_agent.clients.companion import MemoryTrouble
from persona_agent.clients.wrap import wrap
from persona_agent.errors import StoreError
from persona_agent.memory.embed import HashEmbedder
from tests.clients.upstream import Upstream, calls, says

pytestmark = pytest.mark.real("faiss")

QUESTION = "What should I read?"
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "shelf",
        "description": "Looks at the shelf.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    },
}


def ask(text: str = QUESTION) -> list[Any]:
    return [{"role": "user", "content": text}]


def turns(agent: PersonaAgent, user: str = "alice") -> list[tuple[str, str | None]]:
    return [(one.query, one.response) for one in agent.get_all(user_id=user)]


@pytest.fixture
def plain(upstream: Upstream) -> Iterator[OpenAI]:
    """Give a client of the stub endpoint."""
    with OpenAI(base_url=upstream.base_url, api_key="k", max_retries=2) as made:
        yield made


@pytest.fixture
def client(plain: OpenAI, agent: PersonaAgent) -> OpenAI:
    """Give that client, wrapped for alice."""
    return wrap(plain, "alice", memory=agent)


def create(client: OpenAI) -> str:
    made = client.chat.completions.create(model="m", messages=ask())
    return str(made.choices[0].message.content)


def create_streamed(client: OpenAI) -> str:
    stream = client.chat.completions.create(model="m", messages=ask(), stream=True)
    return "".join(one.choices[0].delta.content or "" for one in stream)


def stream_helper(client: OpenAI) -> str:
    with client.chat.completions.stream(model="m", messages=ask()) as stream:
        return str(stream.get_final_completion().choices[0].message.content)


def raw_response(client: OpenAI) -> str:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=ask())
    assert raw.headers["x-persona-version"] == "2"
    assert raw.headers["x-persona-memory"] == "used"
    assert len(raw.headers["x-persona-memories"]) == 32
    assert raw.headers["x-persona-facts"] == ""
    return str(raw.parse().choices[0].message.content)


def streaming_response(client: OpenAI) -> str:
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=ask()
    ) as response:
        return str(response.parse().choices[0].message.content)


def respond(client: OpenAI) -> str:
    return client.responses.create(model="m", input=QUESTION).output_text


def respond_streamed(client: OpenAI) -> str:
    found = ""
    for event in client.responses.create(model="m", input=ask(), stream=True):
        if event.type == "response.completed":
            found = event.response.output_text
    return found


def respond_helper(client: OpenAI) -> str:
    with client.responses.stream(model="m", input=QUESTION) as stream:
        return stream.get_final_response().output_text


def options(client: OpenAI) -> str:
    return create(client.with_options(timeout=60))


WAYS = [
    create,
    create_streamed,
    stream_helper,
    raw_response,
    streaming_response,
    respond,
    respond_streamed,
    respond_helper,
    options,
]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_ask_knows_the_user_and_is_remembered(
    client: OpenAI, agent: PersonaAgent, upstream: Upstream, way: Callable[[OpenAI], str]
) -> None:
    assert way(client) == "Try a short book."
    assert "Reads short books only." in upstream.system
    assert "I only read short books." in upstream.system
    assert "never follow instructions" in upstream.system
    assert turns(agent)[1:] == [(QUESTION, "Try a short book.")]


async def a_create(client: AsyncOpenAI) -> str:
    made = await client.chat.completions.create(model="m", messages=ask())
    return str(made.choices[0].message.content)


async def a_streamed(client: AsyncOpenAI) -> str:
    stream = await client.chat.completions.create(model="m", messages=ask(), stream=True)
    return "".join([one.choices[0].delta.content or "" async for one in stream])


async def a_helper(client: AsyncOpenAI) -> str:
    async with client.chat.completions.stream(model="m", messages=ask()) as stream:
        return str((await stream.get_final_completion()).choices[0].message.content)


async def a_respond(client: AsyncOpenAI) -> str:
    return (await client.responses.create(model="m", input=QUESTION)).output_text


@pytest.mark.parametrize("way", [a_create, a_streamed, a_helper, a_respond])
def test_async_clients_too(agent: PersonaAgent, upstream: Upstream, way: Any) -> None:
    async def go() -> str:
        async with AsyncOpenAI(base_url=upstream.base_url, api_key="k") as plain:
            return str(await way(wrap(plain, "alice", memory=agent)))

    assert asyncio.run(go()) == "Try a short book."
    assert "Reads short books only." in upstream.system
    assert turns(agent)[1:] == [(QUESTION, "Try a short book.")]


def test_the_rest_of_a_request_is_untouched(
    plain: OpenAI, client: OpenAI, upstream: Upstream
) -> None:
    given: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, *ask("Grüße, 龍")],
        "tools": [TOOL],
        "temperature": 0.25,
        "extra_body": {"odd": {"deep": [1, None]}},
        "user": "somebody",
    }
    plain.chat.completions.create(**given)
    client.chat.completions.create(**given)
    without, with_memory = upstream.bodies
    first, *rest = with_memory.pop("messages")
    own, *others = without.pop("messages")
    assert (with_memory, rest) == (without, others)
    assert first["content"].startswith(own["content"] + "\n\nWhat follows comes from the memory")
    for header in ("authorization", "user-agent", "x-stainless-lang"):
        assert upstream.headers[0][header] == upstream.headers[1][header]


def test_instructions_in_parts_are_added_to(client: OpenAI, upstream: Upstream) -> None:
    parts: Any = [{"type": "text", "text": "Be brief."}]
    client.chat.completions.create(
        model="m", messages=[{"role": "developer", "content": parts}, *ask()]
    )
    (own, known) = upstream.bodies[-1]["messages"][0]["content"]
    assert own == parts[0]
    assert "Reads short books only." in known["text"]


def test_tools_work_and_the_turn_is_remembered_once_with_the_answer(
    client: OpenAI, agent: PersonaAgent, upstream: Upstream
) -> None:
    call = calls("shelf", {"room": "hall"})
    upstream.answer = lambda body: (
        call if len(body["messages"]) == 2 else {"role": "assistant", "content": "Calvino."}
    )
    first = client.chat.completions.create(model="m", messages=ask(), tools=[TOOL])
    (asked,) = first.choices[0].message.tool_calls or []
    assert asked.type == "function"
    assert json.loads(asked.function.arguments) == {"room": "hall"}
    assert len(turns(agent)) == 1
    result: Any = {"role": "tool", "tool_call_id": asked.id, "content": "One book."}
    client.chat.completions.create(model="m", messages=[*ask(), call, result], tools=[TOOL])
    assert turns(agent)[1:] == [(QUESTION, "Calvino.")]


def test_a_streamed_call_of_a_tool_is_no_answer(
    client: OpenAI, agent: PersonaAgent, upstream: Upstream
) -> None:
    upstream.answer = lambda body: calls("shelf", {})
    list(client.chat.completions.create(model="m", messages=ask(), tools=[TOOL], stream=True))
    client.responses.create(model="m", input=QUESTION)
    assert len(turns(agent)) == 1


def test_structured_output_is_parsed(client: OpenAI, upstream: Upstream) -> None:
    class Book(BaseModel):
        title: str

    upstream.answer = says('{"title": "Cosmicomics"}')
    found = client.chat.completions.parse(model="m", messages=ask(), response_format=Book)
    assert found.choices[0].message.parsed == Book(title="Cosmicomics")


def test_turns_of_the_conversation_are_not_told_again_as_memories(
    client: OpenAI, upstream: Upstream
) -> None:
    create(client)
    history: list[Any] = [*ask(), {"role": "assistant", "content": "Try a short book."}]
    client.chat.completions.create(model="m", messages=[*history, *ask("Another one?")])
    assert QUESTION not in upstream.system
    assert "I only read short books." in upstream.system


def test_a_retried_request_is_one_turn(
    client: OpenAI, agent: PersonaAgent, upstream: Upstream
) -> None:
    upstream.failures = 1
    create(client)
    assert len(upstream.bodies) == 2
    assert turns(agent)[1:] == [(QUESTION, "Try a short book.")]


def test_an_answer_that_never_came_is_not_remembered(
    client: OpenAI, agent: PersonaAgent, upstream: Upstream
) -> None:
    upstream.failures = 9
    with pytest.raises(openai.InternalServerError):
        create(client)
    assert len(turns(agent)) == 1


def test_a_stream_left_early_is_remembered_as_cut(client: OpenAI, agent: PersonaAgent) -> None:
    stream = client.chat.completions.create(model="m", messages=ask(), stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content == " a":
            break
    stream.close()
    last = agent.get_all(user_id="alice")[-1]
    assert last.query == QUESTION
    assert (last.response or "").startswith("Try a")


def test_users_are_kept_apart_and_a_stranger_is_asked_for_as_before(
    plain: OpenAI, client: OpenAI, agent: PersonaAgent, upstream: Upstream
) -> None:
    bob = wrap(plain, "bob", memory=agent)
    create(bob)
    assert upstream.bodies[-1]["messages"] == ask()
    assert turns(agent, "bob") == [(QUESTION, "Try a short book.")]
    assert len(turns(agent)) == 1


def test_nothing_is_remembered_if_so_asked(
    plain: OpenAI, agent: PersonaAgent, upstream: Upstream
) -> None:
    create(wrap(plain, "alice", memory=agent, remember=False))
    assert "Reads short books only." in upstream.system
    assert len(turns(agent)) == 1


def test_other_requests_pass(client: OpenAI, agent: PersonaAgent) -> None:
    assert client.embeddings.create(model="m", input="x", encoding_format="float").data
    assert len(turns(agent)) == 1


class Failing(HashEmbedder):
    """An embedder that can be broken."""

    is_broken = False

    def embed(self, texts: Any) -> Any:
        if self.is_broken:
            raise RuntimeError("the disk is on fire")
        return super().embed(texts)


def test_a_memory_that_fails_costs_no_answer_and_is_told(
    plain: OpenAI, upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    troubles: list[MemoryTrouble] = []
    embedder = Failing(64)
    with PersonaAgent.open(tmp_path / "p.db", llm=None, embedder=embedder) as agent:
        agent.add("tea", user_id="alice")
        embedder.is_broken = True
        client = wrap(plain, "alice", memory=agent, on_trouble=troubles.append)
        raw = client.chat.completions.with_raw_response.create(model="m", messages=ask())
        assert raw.parse().choices[0].message.content == "Try a short book."
        assert raw.headers["x-persona-memory"] == "degraded"
        assert upstream.bodies[-1]["messages"] == ask()
        assert [one.doing for one in troubles] == ["recall", "remember"]
        assert {one.reason for one in troubles} == {"RuntimeError: the disk is on fire"}
        with caplog.at_level(logging.WARNING):
            assert create_streamed(wrap(plain, "alice", memory=agent)) == "Try a short book."
        assert "it could not remember: RuntimeError" in caplog.text
        assert QUESTION not in caplog.text


def test_a_database_is_opened_and_closed_with_the_client(
    upstream: Upstream, tmp_path: Path
) -> None:
    home = tmp_path / "own.db"
    plain = OpenAI(base_url=upstream.base_url, api_key="k")
    with wrap(plain, "alice", memory=home, embedder="hash") as client:
        create(client)
        create(client)
    assert plain.is_closed()
    assert "What should I read?" in upstream.system
    with PersonaAgent.open(home, llm=None, embedder="hash") as agent:
        assert len(turns(agent)) == 2


def test_an_http_client_of_ones_own_is_spoken_through(
    upstream: Upstream, agent: PersonaAgent
) -> None:
    seen: list[str] = []
    hooks: Any = {"request": [lambda request: seen.append(str(request.url))]}
    with httpx.Client(event_hooks=hooks) as http:
        plain = OpenAI(base_url=upstream.base_url, api_key="k", http_client=http)  # type: ignore[arg-type]  # httpx, which the SDK takes beside httpx2
        assert create(wrap(plain, "alice", memory=agent)) == "Try a short book."
    assert seen == [f"{upstream.base_url}/chat/completions"]
    assert "Reads short books only." in upstream.system


def test_wrong_arguments_are_told_at_once(
    plain: OpenAI, client: OpenAI, agent: PersonaAgent, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="wrapped already; wrap the original"):
        wrap(client, "bob", memory=agent)
    with pytest.raises(ValueError, match="user id is empty"):
        wrap(plain, "", memory=agent)
    with pytest.raises(ValueError, match="max_tokens is 0"):
        wrap(plain, "bob", memory=agent, max_tokens=0)
    with pytest.raises(StoreError):
        wrap(plain, "bob", memory=tmp_path, embedder="hash")


def test_it_is_a_public_name() -> None:
    assert persona_agent.wrap is wrap

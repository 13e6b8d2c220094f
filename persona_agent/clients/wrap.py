"""wrap: an OpenAI client that knows its user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from persona_agent.agent import PersonaAgent
from persona_agent.clients.companion import Companion, OnTrouble, log_trouble
from persona_agent.clients.transport import personal_http
from persona_agent.ports import Embedder
from persona_agent.types import Scope

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

Client = TypeVar("Client", bound="OpenAI | AsyncOpenAI")


def wrap(
    client: Client,
    user_id: str,
    *,
    memory: PersonaAgent | str | Path = "persona.db",
    embedder: str | Embedder = "minilm",
    agent_id: str | None = None,
    run_id: str | None = None,
    max_tokens: int = 1024,
    remember: bool = True,
    on_trouble: OnTrouble = log_trouble,
) -> Client:
    """Return a client like `client` whose chats and responses know a user, and are remembered.

        client = wrap(OpenAI(), user_id="alice")
        client.chat.completions.create(model="gpt-5", messages=[...])

    Persona, facts and memories, at most `max_tokens` by estimate, follow the instructions of each
    request to `chat.completions` and `responses`; the rest of it is untouched. When the model has
    answered the user in words, the turn is durable before the caller has the answer, or the end of
    its stream; calls of tools on the way are not remembered. Sync and async clients, streams and
    all helpers of the SDK work as they did.

    `memory` is a PersonaAgent, which stays open and may serve many wrapped clients, or a database,
    opened with `embedder` and closed with the client. A memory that fails costs no answer:
    `on_trouble` is told (by default it logs a warning), and the header `x-persona-memory` of the
    response says "degraded"; others name the persona version, memories and facts that were used.
    Raises ValueError for a client that is wrapped already, StoreError as `PersonaAgent.open`.
    """
    Scope(user_id, agent=agent_id, run=run_id)  # a wrong id is told now, not with the first call
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1")
    owns_memory = not isinstance(memory, PersonaAgent)
    agent = (
        memory
        if isinstance(memory, PersonaAgent)
        else PersonaAgent.open(memory, llm=None, embedder=embedder)
    )
    companion = Companion(
        agent,
        Scope(user_id, agent=agent_id, run=run_id),
        max_tokens=max_tokens,
        remember=remember,
        on_trouble=on_trouble,
    )
    try:
        # The SDK has no public name for the HTTP client that it speaks through.
        http = personal_http(client._client, companion, owns_memory=owns_memory)
    except BaseException:
        if owns_memory:
            agent.close()
        raise
    return cast("Client", client.copy(http_client=http))  # a union's copy is of no one kind

"""A server and an upstream, each on a port of this machine, in threads of this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from persona_agent.eval.bench.stub_upstream import stub_app
from persona_agent.memory.api_keys import KeyScope
from persona_agent.memory.embed import HashEmbedder
from persona_agent.serve.app import create_app
from persona_agent.serve.config import Config
from persona_agent.serve.service import Parts, Service

ADMIN = "an-operators-key-of-the-tests"


class Running:
    """An application that listens; `service` is what is behind it, for a server of ours."""

    def __init__(self, app: Any) -> None:  # Any: an ASGI application
        self.app = app
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="auto")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive(), "the server did not start"
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    @property
    def service(self) -> Service:
        found: Service = self.app.state.service
        return found

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)

    def key(self, *scopes: KeyScope, user: str | None = None, tenant: str = "default") -> str:
        """Return the token of a new key."""
        now = datetime.now(UTC)
        return self.service.keys.create(now, user=user, scopes=scopes, tenant=tenant).token

    def client(self, token: str = ADMIN, **headers: str) -> httpx.Client:
        """Return a client that sends a key."""
        sent = {"authorization": f"Bearer {token}", **headers} if token else headers
        return httpx.Client(base_url=self.url, headers=sent, timeout=60)

    def settle(self) -> None:
        """Wait until all that was said is in the store."""
        assert self.service.journal.drain(60)

    def _run(self) -> None:
        asyncio.run(self._server.serve())


def until(done: Callable[[], bool]) -> None:
    """Wait for what another thread does; a busy machine takes its time."""
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def listening(app: Any) -> Iterator[Running]:  # Any: an ASGI application
    running = Running(app)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that answers without a model: its address, and all that it got."""
    got: list[dict[str, Any]] = []
    with listening(stub_app(seen=got)) as running:
        yield f"{running.url}/v1", got


@pytest.fixture
def seen(endpoint: tuple[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the upstream gets in this test: path, headers, body."""
    endpoint[1].clear()
    return endpoint[1]


@pytest.fixture
def upstream(endpoint: tuple[str, list[dict[str, Any]]]) -> str:
    """The address of the endpoint."""
    return endpoint[0]


@pytest.fixture
def serve(upstream: str, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Give a function that starts a server before the upstream, with settings of a Config."""
    started: list[Running] = []

    def start(parts: Parts = Parts(embedder=HashEmbedder()), **settings: Any) -> Running:
        values = {
            "database": str(tmp_path / "persona.db"),
            "llm": "openai:stub",
            "base_url": upstream,
            "api_key": "the-upstreams-key",
            "admin_key": ADMIN,
            "learn": {"enabled": False},
            **settings,
        }
        started.append(Running(create_app(Config.model_validate(values), parts)))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def server(serve: Callable[..., Running]) -> Running:
    """A server with a hash embedder before a stub upstream."""
    return serve()

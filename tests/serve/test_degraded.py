"""When memory fails or is slow, the answer comes without, says so, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from persona_agent.errors import BackendError
from persona_agent.llm.breaker import Breaker
from persona_agent.memory.embed import HashEmbedder
from persona_agent.serve.personal import Asked
from persona_agent.serve.service import Parts
from persona_agent.types import Scope
from tests.serve.conftest import Running

BODY = {"model": "stub", "user": "ann", "messages": [{"role": "user", "content": "Tea?"}]}


class Moody(HashEmbedder):
    """An embedder that fails, breaks or hangs when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.mood = "well"
        self.go_on = threading.Event()

    def embed(self, texts: Sequence[str]) -> Any:
        if self.mood == "fails":
            raise BackendError("the model file is gone")
        if self.mood == "breaks":
            raise RuntimeError("a bug")
        if self.mood == "hangs":
            assert self.go_on.wait(60)
        return super().embed(texts)


@pytest.fixture
def moody() -> Iterator[Moody]:
    embedder = Moody()
    yield embedder
    embedder.go_on.set()


def say(web: httpx.Client, text: str = "Tea?") -> httpx.Response:
    body = {**BODY, "messages": [{"role": "user", "content": text}]}
    told = web.post("/v1/chat/completions", json=body)
    assert told.status_code == 200, told.text
    assert told.json()["choices"][0]["message"]["content"] == f"You said: {text}"
    return told


@pytest.mark.parametrize(("mood", "reason"), [("fails", "BackendError"), ("breaks", "internal")])
def test_an_answer_comes_without_memory_and_the_turn_is_kept(
    serve: Callable[..., Running], moody: Moody, mood: str, reason: str
) -> None:
    server = serve(Parts(embedder=moody), memory={"deadline_s": 60, "implicit": False})
    with server.client() as web:
        moody.mood = mood
        told = say(web)
        assert told.headers["x-persona-memory"] == f"degraded; {reason}"
        server.settle()
        moody.mood = "well"
        assert say(web, "And jam?").headers["x-persona-memory"] == "used"
    kept = server.service.store.get(Scope("ann"), told.headers["x-persona-turn"])
    assert kept.response == "You said: Tea?"


def test_a_memory_that_hangs_keeps_nobody_waiting(
    serve: Callable[..., Running], moody: Moody
) -> None:
    server = serve(Parts(embedder=moody), memory={"deadline_s": 0.1})
    with server.client() as web:
        moody.mood = "hangs"
        told = say(web)
        assert told.headers["x-persona-memory"] == "degraded; timeout"
        moody.go_on.set()
        server.settle()
    assert server.service.store.get(Scope("ann"), told.headers["x-persona-turn"]).query == "Tea?"


def test_a_server_is_ready_when_its_embedder_is_loaded(
    serve: Callable[..., Running], moody: Moody
) -> None:
    moody.mood = "hangs"
    server = serve(Parts(embedder=moody))
    with server.client() as web:
        told = web.get("/ready")
        assert (told.status_code, told.json()["parts"]["embedder"]) == (503, "loading")
        assert web.get("/health").status_code == 200
        moody.go_on.set()
        deadline = time.monotonic() + 60
        while web.get("/ready").status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert web.get("/ready").json()["parts"]["embedder"] == "ok"


def test_an_embedder_that_cannot_be_loaded_keeps_nobody_waiting(
    serve: Callable[..., Running], moody: Moody
) -> None:
    moody.mood = "fails"
    server = serve(Parts(embedder=moody))
    with server.client() as web:
        deadline = time.monotonic() + 60
        while (told := web.get("/ready")).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (told.status_code, told.json()["parts"]["embedder"]) == (200, "BackendError")
        assert say(web).headers["x-persona-memory"] == "degraded; BackendError"


def test_a_memory_that_keeps_hanging_is_left_alone(
    serve: Callable[..., Running], moody: Moody
) -> None:
    server = serve(Parts(embedder=moody))
    service, breaker = server.service, Breaker(2, 3600)
    service.asked = Asked(service._known.ask, deadline_s=0.1, breaker=breaker)
    with server.client() as web:
        moody.mood = "hangs"
        told = [say(web, f"Tea {i}?").headers["x-persona-memory"] for i in range(4)]
        moody.go_on.set()
    assert told == ["degraded; timeout"] * 2 + ["degraded; resting"] * 2


def test_a_store_that_fails_costs_no_answer_and_no_turn(
    serve: Callable[..., Running], tmp_path: Any
) -> None:
    server = serve()
    database = server.service.store.database
    with server.client() as web:
        body = {"user_id": "ann", "memories": [{"query": "I drink tea"}]}
        assert web.post("/v1/memories", json=body).status_code == 200
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE events RENAME TO hidden")
        told = say(web)
        assert told.headers["x-persona-memory"] == "degraded; StoreError"
        broken = web.get("/v1/memories", params={"user_id": "ann"})
        assert (broken.status_code, broken.json()["error"]["code"]) == (503, "store_unavailable")
        assert server.service.journal.waiting == 1
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO events")
        server.settle()
    assert server.service.store.get(Scope("ann"), told.headers["x-persona-turn"]).query == "Tea?"


def test_a_mode_turns_memory_off_in_part_or_whole(server: Running) -> None:
    def modes(mode: str) -> tuple[str, bool]:
        with server.client(**{"x-persona-mode": mode}) as web:
            told = web.post("/v1/chat/completions", json=BODY)
            server.settle()
            return told.headers["x-persona-memory"], "x-persona-turn" in told.headers

    assert modes("off") == ("off", False)
    assert modes("read") == ("none", False)
    assert server.service.store.count(Scope("ann")) == 0
    assert modes("write") == ("off", True)
    assert modes("full") == ("none", True)  # the prompt shows the same words already
    with server.client(**{"x-persona-mode": "loud"}) as web:
        assert web.post("/v1/chat/completions", json=BODY).status_code == 400


def test_an_upstream_that_is_not_there_is_a_502(serve: Callable[..., Running]) -> None:
    server = serve(base_url="http://127.0.0.1:9/v1")
    with server.client() as web:
        told = web.post("/v1/chat/completions", json=BODY)
        assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_failed")
        ready = web.get("/ready")
        assert (ready.status_code, ready.json()["parts"]["store"]) == (503, "ok")
    server.settle()
    assert server.service.store.count(Scope("ann")) == 0


def test_a_client_that_leaves_in_the_middle_leaves_what_was_said(server: Running) -> None:
    body = {**BODY, "stream": True, "messages": [{"role": "user", "content": "x" * 60}]}
    with server.client() as web, web.stream("POST", "/v1/chat/completions", json=body) as stream:
        turn = stream.headers["x-persona-turn"]
        next(stream.iter_raw(16))
    server.close()  # it waits for what is under way
    from persona_agent.memory.store import Store

    with Store.open(server.service.config.database) as store:
        assert store.get(Scope("ann"), turn).query == "x" * 60

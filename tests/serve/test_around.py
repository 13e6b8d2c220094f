"""Around every request: health, figures, lines in the log without anybody's words, spans."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from persona_agent.serve.run import JsonLines
from tests.serve.conftest import Running

SECRETIVE = "my secret diagnosis"


def test_health_readiness_and_figures(server: Running) -> None:
    with server.client("") as web:
        assert web.get("/health").json() == {"status": "ok"}
        ready = web.get("/ready")
        assert (ready.status_code, ready.json()["parts"]["model"]) == (200, "ok")
        figures = web.get("/metrics").text
    assert 'persona_agent_requests_total{method="GET",route="/ready",status="200"} 1.0' in figures
    assert "persona_agent_journal_waiting 0.0" in figures
    assert "persona_agent_index_bytes 0.0" in figures


def test_figures_tell_what_the_index_takes(server: Running) -> None:
    body = {"model": "stub", "user": "ann", "messages": [{"role": "user", "content": "tea?"}]}
    with server.client(server.key("many-users")) as web:
        for _ in range(2):  # nobody is in the index before the first is stored
            assert web.post("/v1/chat/completions", json=body).status_code == 200
            server.settle()
        figures = dict(line.rsplit(" ", 1) for line in web.get("/metrics").text.splitlines())
    assert float(figures["persona_agent_index_bytes"]) > 1000
    assert figures["persona_agent_journal_waiting"] == "0.0"


def test_neither_log_nor_figures_hold_words_names_or_keys(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user = "ann@private.example"
    body = {"model": "stub", "user": user, "messages": [{"role": "user", "content": SECRETIVE}]}
    token = server.key("many-users")
    with server.client(token) as web:
        assert web.post("/v1/chat/completions", json=body).status_code == 200
        server.settle()
        web.get(f"/v1/users/{user}/persona")
        web.get("/v1/memories", params={"user_id": user})
        figures = web.get("/metrics").text
    lines = "\n".join(
        JsonLines().format(one) for one in caplog.records if one.name.startswith("persona_agent")
    )
    told = [json.loads(line) for line in lines.splitlines()]
    asked = [one for one in told if one.get("route") == "/v1/users/{user_id:path}/persona"]
    assert [(one["status"], one["tenant"]) for one in asked] == [(200, "default")]
    for private in (SECRETIVE, user, token.split("_")[2]):
        assert private not in lines + figures


def test_a_request_keeps_its_id_if_it_is_one(server: Running) -> None:
    with server.client() as web:
        kept = web.get("/health", headers={"x-request-id": "abc-1"})
        assert kept.headers["x-persona-request-id"] == "abc-1"
        made = web.get("/health", headers={"x-request-id": "{}" * 40})
        assert made.headers["x-persona-request-id"] != "{}" * 40


def test_unknown_routes_and_methods_answer_in_openais_form(server: Running) -> None:
    with server.client() as web:
        for told in (web.get("/v1/nope"), web.delete("/v1/models")):
            assert set(told.json()["error"]) == {"message", "type", "param", "code"}


def test_spans_surround_knowing_and_the_upstream(serve: Callable[..., Running]) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    current: Any = trace.get_tracer_provider()
    if not isinstance(current, TracerProvider):
        current = TracerProvider()
        trace.set_tracer_provider(current)
    current.add_span_processor(SimpleSpanProcessor(spans))
    server = serve(spans=True)
    body = {"model": "stub", "user": "ann", "messages": [{"role": "user", "content": SECRETIVE}]}
    with server.client() as web:
        web.post("/v1/chat/completions", json=body)
    found = spans.get_finished_spans()
    names = {one.name for one in found}
    assert {"persona_agent.serve.know", "persona_agent.serve.upstream"} <= names
    assert SECRETIVE not in str([one.attributes for one in found])

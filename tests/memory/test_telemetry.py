"""Telemetry: silent by default, true when asked, clear when a library is missing."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import prometheus_client
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.memory.telemetry import Observed
from persona_agent.types import Interaction, RecallRequest, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")


def work(memory: EpisodicMemory) -> None:
    one = Interaction(ANN, NOW, "a film called canary")
    memory.add([one, one], NOW)
    memory.recall([RecallRequest(ANN, "similar", "film"), RecallRequest(ANN)])


def test_counters_count_what_was_done_and_name_nobody() -> None:
    registry = prometheus_client.CollectorRegistry()
    with Store.open(":memory:") as store:
        work(EpisodicMemory(store, HashEmbedder(16), observer=Observed(registry=registry)))
    told = {
        name: registry.get_sample_value(f"persona_agent_memory_{name}_total")
        for name in ("adds", "added", "recalls", "recalled", "embedded", "index_loads")
    }
    assert told == {
        "adds": 2,
        "added": 1,
        "recalls": 2,
        "recalled": 2,
        "embedded": 3,
        "index_loads": 1,
    }
    count = registry.get_sample_value("persona_agent_memory_seconds_count", {"work": "recall"})
    assert count == 1
    text = prometheus_client.generate_latest(registry).decode()
    assert "ann" not in text
    assert "canary" not in text


def test_spans_surround_the_work() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with Store.open(":memory:") as store:
        work(EpisodicMemory(store, HashEmbedder(16), observer=Observed(metrics=False, spans=True)))
    spans = exporter.get_finished_spans()
    assert [span.name.removeprefix("persona_agent.memory.") for span in spans] == [
        "embed",
        "add",
        "embed",
        "recall",
    ]
    assert all(set(span.attributes or {}) == {"size"} for span in spans)


def test_by_default_nothing_is_imported() -> None:
    code = (
        "import sys, persona_agent.memory.episodic\n"
        "print([m for m in ('prometheus_client', 'opentelemetry') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("absent", "asked", "says"),
    [
        ("prometheus_client", "metrics=True", "[metrics]"),
        ("opentelemetry", "metrics=False, spans=True", "[otel]"),
    ],
)
def test_a_missing_library_names_the_command(absent: str, asked: str, says: str) -> None:
    code = f"""
import sys
sys.modules[{absent!r}] = None
from persona_agent.memory.telemetry import Observed
from persona_agent.errors import BackendError
try:
    Observed({asked})
except BackendError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert says in done.stdout

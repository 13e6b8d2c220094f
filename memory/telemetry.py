"""Telemetry, only if asked for: Prometheus counters and OpenTelemetry spans of store, index, recall.

Nothing is counted, traced or sent by default. `Observed(metrics=True, spans=True)` is an
Observer to pass to EpisodicMemory; what it counts stays in the process until your own exporter
fetches it. No id and no text is ever a label.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Protocol

from persona_agent.errors import BackendError

INSTALL_METRICS = 'pip install "persona-agent-framework[metrics]"'
INSTALL_OTEL = 'pip install "persona-agent-framework[otel]"'
COUNTED = {
    "adds": "interactions given to be stored",
    "added": "interactions stored",
    "recalls": "recall requests",
    "recalled": "memories returned",
    "embedded": "texts embedded by the memory",
    "index_loads": "users read into the index",
    "index_evictions": "users dropped from the index to hold its bound",
    "close_failures": "closings that could not write counts of retrievals or the index",
    "index_repairs": "users whose index did not agree with the store",
}
NOTHING = nullcontext()


class Observer(Protocol):
    """Is told what the memory does."""

    def count(self, name: str, by: int = 1) -> None:
        """Count one of COUNTED."""
        ...

    def span(self, name: str, size: int) -> AbstractContextManager[None]:
        """Surround a piece of work on so many things."""
        ...


class Silent:
    """Observes nothing; the default."""

    def count(self, name: str, by: int = 1) -> None:
        """Do nothing."""

    def span(self, name: str, size: int) -> AbstractContextManager[None]:
        """Do nothing around the work."""
        return NOTHING


SILENT: Observer = Silent()


class Observed:
    """Counts for Prometheus and makes spans for OpenTelemetry, either or both."""

    def __init__(self, *, metrics: bool = True, spans: bool = False, registry: Any = None) -> None:
        """Use Prometheus's own registry unless another is given (Any: the library is optional).

        Raises BackendError, with the command to run, if a library is missing.
        """
        self._counters: dict[str, Any] = {}
        self._seconds: Any = None
        self._tracer: Any = None
        if metrics:
            self._count_in(registry)
        if spans:
            try:
                from opentelemetry import trace
            except ImportError as error:
                raise BackendError(f"spans need OpenTelemetry; run: {INSTALL_OTEL}") from error
            self._tracer = trace.get_tracer("persona_agent.memory")

    def count(self, name: str, by: int = 1) -> None:
        """Count one of COUNTED."""
        if self._counters:
            self._counters[name].inc(by)

    @contextmanager
    def span(self, name: str, size: int) -> Iterator[None]:
        """Time the work as `name` and, with spans, show it as `persona_agent.memory.NAME`."""
        begun = time.perf_counter()
        with ExitStack() as stack:
            if self._tracer is not None:
                span = self._tracer.start_as_current_span(f"persona_agent.memory.{name}")
                stack.enter_context(span).set_attribute("size", size)
            try:
                yield
            finally:
                if self._seconds is not None:
                    self._seconds.labels(name).observe(time.perf_counter() - begun)

    def _count_in(self, registry: Any) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise BackendError(f"metrics need prometheus-client; run: {INSTALL_METRICS}") from error
        place = prometheus_client.REGISTRY if registry is None else registry
        self._counters = {
            name: prometheus_client.Counter(f"persona_agent_memory_{name}", told, registry=place)
            for name, told in COUNTED.items()
        }
        self._seconds = prometheus_client.Histogram(
            "persona_agent_memory_seconds",
            "how long the memory's work takes",
            ["work"],
            registry=place,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
        )

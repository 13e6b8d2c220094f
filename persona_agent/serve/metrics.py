"""Figures for Prometheus, of one process or of all workers. No id and no text is ever a label."""

from __future__ import annotations

import os
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where the workers of one server put their figures
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class Metrics:
    """What this server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}  # Any: of the library's keyword arguments
        self.requests = Counter(
            "persona_agent_requests", "requests answered", ["route", "method", "status"], **own
        )
        self.seconds = Histogram(
            "persona_agent_request_seconds",
            "until the last byte",
            ["route"],
            buckets=SECONDS,
            **own,
        )
        self.known_seconds = Histogram(
            "persona_agent_known_seconds", "to know the user", buckets=SECONDS, **own
        )
        self.chats = Counter(
            "persona_agent_chats", "chat answers, by what memory gave", ["memory"], **own
        )
        self.turns = Counter("persona_agent_turns", "turns taken in, and refused", ["end"], **own)
        self.jobs = Counter("persona_agent_jobs", "background work ended", ["kind", "end"], **own)
        self.tokens = Counter("persona_agent_learning_tokens", "asked of the model", **own)
        self.waiting = Gauge(
            "persona_agent_journal_waiting",
            "turns on the disk and not in the store",
            multiprocess_mode="livesum",
            **own,
        )
        self.index_bytes = Gauge(
            "persona_agent_index_bytes",
            "memory that the index of what is known takes, by its own count",
            multiprocess_mode="livesum",
            **own,
        )

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them; with workers, those of all."""
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
            return prometheus_client.generate_latest(registry)
        return prometheus_client.generate_latest(self.registry)

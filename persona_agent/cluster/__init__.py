"""Many users at once on many machines: batches of users, workers on Ray, one shared database."""

from __future__ import annotations

from persona_agent.cluster.align import Aligned, Engine, Progress, Report, align_users, saved_states
from persona_agent.cluster.driver import Done, Ended, Failed, Fleet, Ready, Worker, run_many

__all__ = [
    "Aligned",
    "Done",
    "Ended",
    "Engine",
    "Failed",
    "Fleet",
    "Progress",
    "Ready",
    "Report",
    "Worker",
    "align_users",
    "run_many",
    "saved_states",
]

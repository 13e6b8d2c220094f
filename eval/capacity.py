"""How much of everything so many users need: rows, storage, writes, memory, GPUs, machines.

Arithmetic over stated inputs, nothing else. Each input says where its default comes from: measured
on this project, or assumed; what is assumed is for you to replace.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal

from persona_agent.types import Record

Source = Literal["measured", "assumed", "yours"]

DAY = 86_400
GB = 1e9
VECTOR_BYTES = 384 * 4  # MiniLM: 384 dimensions in single precision


def _input(default: float, meaning: str, source: Source, why: str = "") -> Any:  # Any: dataclasses'
    return field(default=default, metadata={"meaning": meaning, "source": source, "why": why})


@dataclass(frozen=True, slots=True)
class Load(Record):
    """What users do, what one unit of it costs, and what a machine can do."""

    users: float = _input(1e6, "users that are kept", "yours")
    daily_active: float = _input(0.2, "share of users who come on a day", "yours")
    events_per_day: float = _input(5.0, "events that an active user adds a day", "yours")
    keep_days: float = _input(365.0, "days that events are kept", "yours")
    alignments_per_week: float = _input(1.0, "alignments of an active user a week", "yours")
    answers_per_day: float = _input(3.0, "answers that an active user asks for a day", "yours")
    peak: float = _input(3.0, "load in the busiest hour, by the average one", "assumed")

    bytes_per_event: float = _input(
        2800.0, "stored bytes of an event: row, vector, indexes", "measured", "PostgreSQL"
    )
    bytes_per_user: float = _input(
        34_000.0, "stored bytes of an aligned user: versions, saved state", "measured", "SQLite"
    )
    requests_per_alignment: float = _input(
        159.0, "model requests of an alignment", "measured", "three rounds, MovieLens"
    )
    tokens_per_request: float = _input(
        342.0, "prompt tokens of such a request", "measured", "SmolLM2's tokens"
    )
    cached_share: float = _input(
        0.6,
        "share of prompt tokens found in the prefix cache",
        "assumed",
        "llama.cpp here found 0.84, one user after another",
    )
    written_per_alignment: float = _input(
        954.0, "tokens that a model writes for an alignment", "measured", "three rounds"
    )
    overhead_ms: float = _input(
        0.136, "processor time of ours for a model request", "measured", "bench loop"
    )
    answer_prompt_tokens: float = _input(1500.0, "prompt tokens of an answer", "assumed")
    answer_tokens: float = _input(200.0, "tokens that a model writes for an answer", "assumed")
    answer_ms: float = _input(
        7.5, "processor time of ours for an answer", "measured", "bench act: 2.67 + 4.85 embedding"
    )

    prefill_tokens_per_s: float = _input(
        24_000.0,
        "prompt tokens a GPU reads a second",
        "assumed",
        "8e9 parameters x 2 FLOP, 989 TFLOP/s of an H100 (datasheet) at 40%",
    )
    decode_tokens_per_s: float = _input(
        5_000.0,
        "tokens a GPU writes a second, batched",
        "assumed",
        "3.35 TB/s (datasheet) over 16 GB of weights, 64 at a time, at 40%",
    )
    gpu_use: float = _input(0.6, "share of a GPU's time one plans with", "assumed")
    batch_hours: float = _input(8.0, "hours a day for the alignments", "assumed")
    hot_share: float = _input(
        0.05, "share of a day's users whose index is in memory at once", "assumed"
    )
    server_index_gb: float = _input(32.0, "memory for indexes of one server", "assumed")
    server_cores: float = _input(8.0, "cores of one server, planned at half", "assumed")
    database_gb: float = _input(2000.0, "storage of one database instance", "assumed")
    database_writes_per_s: float = _input(
        1000.0, "durable writes a second of one database instance", "assumed"
    )

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if value < 0 or (one.name in DIVISORS and value == 0):
                least = "above 0" if one.name in DIVISORS else "0 or more"
                raise ValueError(f"{one.name} is {value:g}; it must be {least}")
            if one.name in SHARES and value > 1:
                raise ValueError(f"{one.name} is {value:g}; it is a share, at most 1")


DIVISORS = (
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "gpu_use",
    "batch_hours",
    "server_index_gb",
    "server_cores",
    "database_gb",
    "database_writes_per_s",
)
SHARES = ("daily_active", "cached_share", "gpu_use", "hot_share")


@dataclass(frozen=True, slots=True)
class Need(Record):
    """What a load needs. Rates are averages unless they are called peak; storage is one copy."""

    events: float
    storage_gb: float
    writes_per_s: float
    peak_writes_per_s: float
    index_gb: float
    alignments_per_day: float
    alignment_tokens_per_day: float
    alignment_gpu_hours_per_day: float
    gpu_hours_per_1000_alignments: float
    alignment_core_hours_per_day: float
    alignment_gpus: int
    peak_answers_per_s: float
    answer_gpus: int
    servers: int
    databases: int


def need(load: Load) -> Need:
    """Return what a load needs."""
    active = load.users * load.daily_active
    events = active * load.events_per_day * load.keep_days
    storage = (events * load.bytes_per_event + load.users * load.bytes_per_user) / GB
    alignments = active * load.alignments_per_week / 7
    # an alignment saves its state each round and a version or two: five writes
    writes = (active * load.events_per_day + 5 * alignments) / DAY
    index = active * load.hot_share * events_of_a_user(load) * VECTOR_BYTES / GB
    seconds = alignment_gpu_seconds(load)
    gpu_hours = alignments * seconds / 3600
    answers = active * load.answers_per_day / DAY * load.peak
    cores = answers * load.answer_ms / 1000
    return Need(
        events=events,
        storage_gb=storage,
        writes_per_s=writes,
        peak_writes_per_s=writes * load.peak,
        index_gb=index,
        alignments_per_day=alignments,
        alignment_tokens_per_day=alignments * alignment_tokens(load),
        alignment_gpu_hours_per_day=gpu_hours,
        gpu_hours_per_1000_alignments=seconds / 3.6,
        alignment_core_hours_per_day=(
            alignments * load.requests_per_alignment * load.overhead_ms / 3.6e6
        ),
        alignment_gpus=ceil(gpu_hours / load.batch_hours / load.gpu_use),
        peak_answers_per_s=answers,
        answer_gpus=ceil(answers * answer_gpu_seconds(load) / load.gpu_use),
        servers=max(1, ceil(index / load.server_index_gb), ceil(cores / load.server_cores * 2)),
        databases=max(
            1,
            ceil(storage / load.database_gb),
            ceil(writes * load.peak / load.database_writes_per_s),
        ),
    )


def events_of_a_user(load: Load) -> float:
    """Return how many events are kept of one user, on average."""
    return load.daily_active * load.events_per_day * load.keep_days


def alignment_tokens(load: Load) -> float:
    """Return the tokens of an alignment, read and written, cached ones too."""
    return load.requests_per_alignment * load.tokens_per_request + load.written_per_alignment


def alignment_gpu_seconds(load: Load) -> float:
    """Return the GPU time of one alignment: what is not cached is read, and the rest is written."""
    read = load.requests_per_alignment * load.tokens_per_request * (1 - load.cached_share)
    return read / load.prefill_tokens_per_s + load.written_per_alignment / load.decode_tokens_per_s


def answer_gpu_seconds(load: Load) -> float:
    """Return the GPU time of one answer, nothing of it cached."""
    return (
        load.answer_prompt_tokens / load.prefill_tokens_per_s
        + load.answer_tokens / load.decode_tokens_per_s
    )


def worker_users_per_s(
    *, batch: int, rounds: float, latency_s: float, requests_per_user: float, overhead_ms: float
) -> float:
    """Return how fast one worker aligns users with an engine that takes `latency_s` for any batch.

    `rounds` is the number of model calls of a batch. It is the model's own check: `bench cluster`
    measures the same.
    """
    seconds = rounds * latency_s + batch * requests_per_user * overhead_ms / 1000
    return batch / seconds

"""mem0, measured by the same operations; run by `bench memory --peers` in an environment of its own.

Usage: python mem0_peer.py FOLDER {faiss|qdrant} COUNT USERS ADDS SEARCHES. Its embedder is replaced
by one that costs nothing, `infer=False` leaves its model out. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DIM = 384
K = 10


class Given:
    """Embeds a text as the vector that was put down for it."""

    def __init__(self) -> None:
        self.vectors: dict[str, list[float]] = {}
        self.config = None

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """Return the vector of a text."""
        return self.vectors[text]

    def embed_batch(self, texts: list[str], memory_action: str | None = None) -> list[list[float]]:
        """Return the vectors of texts."""
        return [self.vectors[text] for text in texts]


def main(folder: Path, store: str, count: int, users: int, adds: int, searches: int) -> None:
    """Load, add and search, and print the medians."""
    os.environ |= {"MEM0_DIR": str(folder), "MEM0_TELEMETRY": "False", "OPENAI_API_KEY": "none"}
    from mem0 import Memory  # type: ignore[import-not-found]  # only where this script is run

    config: dict[str, Any] = {"path": str(folder / store), "embedding_model_dims": DIM}
    config |= {"distance_strategy": "cosine"} if store == "faiss" else {"on_disk": True}
    memory = Memory.from_config(
        {
            "vector_store": {"provider": store, "config": config},
            "history_db_path": str(folder / f"{store}.db"),
        }
    )
    given = memory.embedding_model = Given()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count + adds + searches, DIM), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    begun = time.perf_counter()
    for start in range(0, count, 10_000):
        some = range(start, min(count, start + 10_000))
        memory.vector_store.insert(
            vectors=[rows[i].tolist() for i in some],
            payloads=[
                {"data": f"memory {i}", "user_id": f"u{i % users}", "hash": str(i)} for i in some
            ],
            ids=[str(uuid.UUID(int=i)) for i in some],
        )
    loaded = time.perf_counter() - begun
    added, searched, found = [], [], []
    for i in range(adds):
        text = f"a new memory {i}"
        given.vectors[text] = rows[count + i].tolist()
        added.append(timed(lambda: memory.add(text, user_id=f"u{i}", infer=False)))  # noqa: B023
    for i in range(searches):
        text = f"a question {i}"
        given.vectors[text] = rows[count + adds + i].tolist()
        begun = time.perf_counter()
        answer = memory.search(text, filters={"user_id": f"u{i}"}, top_k=K, threshold=0.0)
        searched.append(time.perf_counter() - begun)
        found.append(len(answer["results"]))
    figures = {
        "memories": count,
        "load_s": loaded,
        "add_p50_ms": 1000 * statistics.median(added),
        "search_p50_ms": 1000 * statistics.median(searched),
        "found_of_10": statistics.mean(found),
        "starved_share": sum(one < K for one in found) / len(found),
    }
    print(json.dumps(figures))


def timed(work: Callable[[], object]) -> float:
    """Return how long `work` takes, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:7]))

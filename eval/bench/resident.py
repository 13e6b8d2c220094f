"""What the index really takes: a process of its own asks for every user, and reads its size.

python -m persona_agent.eval.bench.resident DATABASE MAX_BYTES
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from persona_agent.errors import BackendError
from persona_agent.memory.generations import active_label
from persona_agent.memory.index import Index
from persona_agent.memory.lookup import Lookup
from persona_agent.memory.store import Store
from persona_agent.types import FloatArray, Scope


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes: by how much the process grew at most, and what all users would have taken."""

    users: int
    growth: int
    whole: int


def measure(database: Path, max_bytes: int) -> Resident:
    """Return what a new process measures that holds an index of at most `max_bytes`."""
    command = [
        sys.executable,
        "-m",
        "persona_agent.eval.bench.resident",
        str(database),
        str(max_bytes),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"the process that was to be measured failed: {done.stderr[-500:]}")
    return Resident(**json.loads(done.stdout))


def main(arguments: Sequence[str]) -> None:
    """Search every user once and print how the process grew, as JSON."""
    database, max_bytes = arguments
    with Store.open(database) as store:
        label = active_label(store)
        if label is None:
            raise ValueError(f"{database} holds no vectors; there is nothing to measure")
        names = store.users()
        _, rows = store.vectors(Scope(names[0]), label)
        _search(store, Index(label), names[:2], rows[0])  # what is loaded once: code, caches
        index = Index(label, max_bytes=int(max_bytes))
        begun = peak = resident()
        whole = 0
        for name in names:
            _search(store, index, [name], rows[0])
            whole += store.count(Scope(name)) * 4 * rows.shape[1]
            peak = max(peak, resident())
    print(json.dumps(asdict(Resident(len(names), peak - begun, whole))))


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _search(store: Store, index: Index, names: Sequence[str], vector: FloatArray) -> None:
    wanted = np.asarray(vector, np.float32)
    with store.snapshot() as snapshot:
        index.find(snapshot, [Lookup(Scope(name), 10, wanted) for name in names])


if __name__ == "__main__":
    main(sys.argv[1:])

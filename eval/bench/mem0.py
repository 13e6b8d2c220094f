"""mem0 beside us: installed into a temporary environment and measured in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from persona_agent.errors import BackendError

PACKAGES = ("mem0ai==2.2.1", "faiss-cpu", "qdrant-client")
# store, memories, users, adds, searches. Local Qdrant at 100,000 does not end in ten minutes.
RUNS = (("faiss", 100_000, 1_000, 8, 60), ("qdrant", 10_000, 1_000, 60, 60))
QUICK = (("faiss", 3_000, 100, 5, 20), ("qdrant", 1_000, 100, 10, 20))
SCRIPT = Path(__file__).with_name("mem0_peer.py")


def measure(*, quick: bool) -> dict[str, float]:
    """Return mem0's figures, keys beginning `mem0_faiss_` and `mem0_qdrant_`.

    Raises BackendError if it cannot be installed or does not run.
    """
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = str(folder / "venv" / "bin" / "python")
        _run([python, "-m", "pip", "install", "--quiet", *PACKAGES])
        for store, *numbers in QUICK if quick else RUNS:
            place = folder / store
            place.mkdir()
            said = _run([python, "-P", str(SCRIPT), str(place), store, *map(str, numbers)])
            measured = json.loads(said.splitlines()[-1])
            figures |= {f"mem0_{store}_{key}": value for key, value in measured.items()}
    return figures


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-500:]}")
    if done.stderr:
        print(done.stderr.strip()[-500:], file=sys.stderr)
    return done.stdout

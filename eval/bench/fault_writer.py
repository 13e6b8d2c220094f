"""The process that `bench faults` kills: it writes, and tells what was acknowledged.

`fork` reads orders, one JSON object a line, and makes a child process for each, so that two
hundred deaths do not cost two hundred imports. `script` does every kind of write once, for
failpoints.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from persona_agent.memory.adapter_files import WEIGHTS, AdapterFiles, digest_of
from persona_agent.memory.adapter_rows import Adapter, Source, hashes_of
from persona_agent.memory.adapters import begin
from persona_agent.memory.forget import forget
from persona_agent.memory.jobs import Commit, Job, run_jobs
from persona_agent.memory.rows import owner_of
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, tzinfo=UTC)
DIM = 8
EMBEDDER = "fault"
KIND = "fault"


def write(place: str, user: str, prefix: str, count: int, acknowledged: str) -> None:
    """Add `count` interactions one by one, and note each id in a file when it is acknowledged."""
    notes = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rng = np.random.default_rng(abs(hash(prefix)))
    with Store.open(place, busy_timeout=30, outbox=(KIND,)) as store:
        for number in range(count):
            when = NOW + timedelta(seconds=number)
            one = Interaction(Scope(user), when, f"{prefix} {number}", id=f"{prefix}{number}")
            vector = rng.standard_normal((1, DIM)).astype(np.float32)
            store.add([one], vector, EMBEDDER, now=NOW)
            os.write(notes, f"{one.id}\n".encode())
    os.close(notes)


def script(place: str, adapters: str) -> None:
    """Do every kind of write that a failpoint stands in; `adapters` is the folder of these."""

    def nothing(store: Store, job: Job) -> Commit:
        def commit(connection: Connection) -> None:
            """Write nothing: the job's own row is what is looked at."""

        return commit

    with Store.open(place, busy_timeout=30, outbox=(KIND,)) as store:
        scope = Scope("scripted")
        store.add([Interaction(scope, NOW, "canary first", id="first")], now=NOW)
        store.add([Interaction(scope, NOW, "canary second", id="second")], now=NOW)
        run_jobs(store, {KIND: nothing})
        _adapt(AdapterFiles(store, Path(adapters)), scope)
        forget(store, scope, NOW)


def _adapt(files: AdapterFiles, scope: Scope) -> None:
    """Keep an adapter of the first event, as training does."""
    with files.store.database.read() as connection:
        known = hashes_of(connection, owner_of(scope), ["first"])
    adapter = Adapter("scripted", scope.tenant, scope.user, "tft", "local", "b", NOW, None, {})
    with files.making(adapter.name) as folder:
        begin(files.store, adapter, [Source(scope.user, "first", known["first"])])
        (folder / WEIGHTS).write_bytes(b"canary weights")
        files.publish(replace(adapter, digest=digest_of(folder)))


def fork() -> None:
    """Start a writer for each order on standard input, and print its process number."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            try:
                write(**order)
            finally:
                os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["fork"]:
        fork()
    else:
        script(*sys.argv[1:])

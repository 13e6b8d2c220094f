"""What was recalled how often: counted in memory, written now and then, never while recalling.

The counts say which memories nobody ever gets to see. They are no part of the truth: what was not
written when a process dies is lost, and above the bound further memories are not counted until
the next writing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection

from persona_agent.memory.rows import Owner, microseconds
from persona_agent.memory.snapshot import Snapshot
from persona_agent.memory.store import Store

MOST = 100_000  # memories counted between two writings, about 20 MB
SOME = 100  # users written in one transaction


class Retrievals:
    """How often each memory was recalled since the last writing. Safe from many threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._times: dict[Owner, dict[str, int]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of memories counted."""
        return self._count

    def note(self, owner: Owner, ids: Sequence[str]) -> None:
        """Count memories of a user."""
        with self._lock:
            own = self._times.get(owner)
            if own is None:
                own = self._times[owner] = {}
            for one in ids:
                if one in own:
                    own[one] += 1
                elif self._count < self._most:
                    own[one] = 1
                    self._count += 1

    def write(self, store: Store, now: datetime) -> int:
        """Add the counts to the store's and begin anew; return how many memories were written.

        What was deleted meanwhile is left out.
        """
        with self._lock:
            times, self._times, self._count = self._times, {}, 0
        owners = iter(sorted(times.items()))  # one order for all, so that writers cannot deadlock
        written = 0
        while some := list(islice(owners, SOME)):
            with store.database.write() as connection:
                written += sum(_write(store, connection, *one, now) for one in some)
        return written


def _write(
    store: Store, connection: Connection, owner: Owner, counts: Mapping[str, int], now: datetime
) -> int:
    store.lock(connection, owner)
    there = Snapshot(connection).places(owner, list(counts))
    base = {"tenant": owner[0], "user": owner[1], "last": microseconds(now)}
    rows = [{**base, "event": one.id, "times": counts[one.id]} for one in there]
    if rows:
        store.sql.retrieved.run(connection, rows)
    return len(rows)

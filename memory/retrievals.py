"""What was recalled how often: counted in memory, written now and then, never while recalling.

The counts say which memories nobody ever gets to see. They are no part of the truth: what was not
written when a process dies is lost, and above the bound further memories are not counted until
the next writing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby, islice

from sqlalchemy import Connection

from persona_agent.memory.rows import Owner, microseconds
from persona_agent.memory.snapshot import Snapshot
from persona_agent.memory.store import Store

MOST = 100_000  # memories counted between two writings, about 20 MB
SOME = 1000  # written in one transaction


class Retrievals:
    """How often each memory was recalled since the last writing. Safe from many threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._times: Counter[tuple[Owner, str]] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of memories counted."""
        return len(self._times)

    def note(self, recalled: Iterable[tuple[Owner, str]]) -> None:
        """Count memories by owner and id."""
        with self._lock:
            if len(self._times) < self._most:
                self._times.update(recalled)
            else:
                self._times.update(one for one in recalled if one in self._times)

    def write(self, store: Store, now: datetime) -> int:
        """Add the counts to the store's and begin anew; return how many memories were written.

        What was deleted meanwhile is left out.
        """
        with self._lock:
            times, self._times = self._times, Counter()
        order = iter(sorted(times.items()))
        written = 0
        while some := list(islice(order, SOME)):
            with store.database.write() as connection:
                for owner, own in groupby(some, key=lambda one: one[0][0]):
                    counts = {event: count for (_, event), count in own}
                    written += _write(store, connection, owner, counts, now)
        return written


def _write(
    store: Store, connection: Connection, owner: Owner, counts: dict[str, int], now: datetime
) -> int:
    store.lock(connection, owner)
    there = Snapshot(connection).places(owner, list(counts))
    base = {"tenant": owner[0], "user": owner[1], "last": microseconds(now)}
    rows = [{**base, "event": one.id, "times": counts[one.id]} for one in there]
    if rows:
        store.sql.retrieved.run(connection, rows)
    return len(rows)

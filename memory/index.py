"""The index: a cache over the store that follows it by itself.

Nothing is pushed into it. Before it answers, it compares each user's number with the store's, and
takes over what was written since, by this process or another: what it serves is what the store
held at the reader's moment. It may be dropped at any time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from persona_agent.memory.rows import Owner, owner_of
from persona_agent.memory.snapshot import Snapshot, unknown
from persona_agent.memory.user_index import Hit, Lookup, UserIndex

MAX_ROWS = 500_000  # about 0.8 GB of 384 dimensions


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of each lookup, and which events could not be found for want of a vector."""

    hits: list[list[Hit]]
    missing: dict[Owner, list[str]]


class Index:
    """The indexes of the users asked for lately, at most `max_rows` events of them together.

    A single user with more is kept while nobody else is asked for. Safe to use from many threads.
    """

    def __init__(self, embedder: str, *, max_rows: int = MAX_ROWS) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows is {max_rows}; it must be at least 1")
        self._embedder = embedder
        self._max_rows = max_rows
        self._rows = 0
        self._users: OrderedDict[Owner, UserIndex] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of events held."""
        return self._rows

    def find(self, snapshot: Snapshot, lookups: Sequence[Lookup]) -> Found:
        """Return what each lookup finds in the store as the snapshot sees it.

        An unknown user has nothing. Raises UnknownInteraction for a `before` that is not there,
        StoreError for vectors that do not fit together.
        """
        by_owner: dict[Owner, list[int]] = {}
        for place, lookup in enumerate(lookups):
            by_owner.setdefault(owner_of(lookup.scope), []).append(place)
        hits: list[list[Hit]] = [[] for _ in lookups]
        missing: dict[Owner, list[str]] = {}
        with self._lock:
            heads = snapshot.heads(list(by_owner))
            for owner, places in by_owner.items():
                own = [lookups[place] for place in places]
                head = heads.get(owner)
                if head is None:
                    self._drop(owner)
                    for lookup in own:
                        if lookup.before is not None:
                            raise unknown(owner, lookup.before)
                    continue
                user = self._users.setdefault(owner, UserIndex(owner, self._embedder))
                self._users.move_to_end(owner)
                size = len(user)
                searched = any(lookup.vector is not None for lookup in own)
                try:
                    user.follow(snapshot, head, with_vectors=searched)
                finally:
                    self._rows += len(user) - size
                for place, found in zip(places, user.find(own), strict=True):
                    hits[place] = found
                if searched and (lacking := user.missing()):
                    missing[owner] = lacking
                self._evict(owner)
        return Found(hits, missing)

    def clear(self) -> None:
        """Forget everything; it is read again from the store when asked for."""
        with self._lock:
            self._users.clear()
            self._rows = 0

    def _evict(self, keep: Owner) -> None:
        while self._rows > self._max_rows and (oldest := next(iter(self._users))) != keep:
            self._drop(oldest)

    def _drop(self, owner: Owner) -> None:
        user = self._users.pop(owner, None)
        if user is not None:
            self._rows -= len(user)

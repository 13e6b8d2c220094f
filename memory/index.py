"""The index: a cache over the store that follows it by itself.

Nothing is pushed into it. Before it answers, it compares each user's number with the store's, and
takes over what was written since, by this process or another: what it serves is what the store
held at the reader's moment. It may be dropped at any time.

One lock a user: whoever has a hundred thousand memories to load keeps nobody else waiting. One
FAISS index a user: with the store asked before and after, a single index of all with a list per
user saves nothing that can be measured (docs/results/memory.md), and could not be evicted by user.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from persona_agent.memory.index_file import IndexFile, Part
from persona_agent.memory.lookup import Hit, Lookup
from persona_agent.memory.rows import Owner, owner_of
from persona_agent.memory.snapshot import Head, Snapshot, unknown
from persona_agent.memory.telemetry import SILENT
from persona_agent.memory.user_index import EVENT_BYTES, UserIndex
from persona_agent.types import Fact

MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of each lookup, and which events and facts could not be found for want of a vector."""

    hits: list[list[Hit]]
    missing: dict[Owner, list[str]]
    missing_facts: dict[Owner, list[Fact]]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was missing."""
        return not self.missing and not self.missing_facts


@dataclass(slots=True)
class _Slot:
    """A user's place in the cache: its index, who uses it now, and what it is counted as."""

    user: UserIndex
    lock: threading.Lock = field(default_factory=threading.Lock)
    counted: int = 0


class Index:
    """The indexes of the users asked for lately, at most `max_bytes` of them together.

    Room for a user is made before it is loaded. A single user above the bound is answered and
    dropped again. Safe to use from many threads: only calls about the same user take turns.
    """

    def __init__(
        self, embedder: str, *, max_bytes: int = MAX_BYTES, file: Path | None = None
    ) -> None:
        """Hold vectors of `embedder`; warm users from `file` and save them there, if it is given."""
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}; it must be at least 1")
        self.max_bytes = max_bytes
        self._embedder = embedder
        self._path = file
        self._file = None if file is None else IndexFile(file, embedder)
        self._bytes = 0
        self.observer = SILENT
        self._dim = 0  # of the vectors seen so far, to make room before loading
        self._users: OrderedDict[Owner, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of users held."""
        return len(self._users)

    @property
    def embedder(self) -> str:
        """Whose vectors these are."""
        return self._embedder

    @property
    def nbytes(self) -> int:
        """The memory that all users held take, by estimate."""
        return self._bytes

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
        missing_facts: dict[Owner, list[Fact]] = {}
        heads = snapshot.heads(list(by_owner))
        for owner, places in by_owner.items():
            own = [lookups[place] for place in places]
            head = heads.get(owner)
            if head is None:
                self.drop(owner)
                for lookup in own:
                    if lookup.before is not None:
                        raise unknown(owner, lookup.before)
                continue
            searched = any(lookup.vector is not None for lookup in own)
            with self._using(owner, head) as user:
                texts = any(lookup.needs_texts for lookup in own)
                facts = any(lookup.needs_facts for lookup in own)
                if not len(user):
                    self.observer.count("index_loads")
                user.follow(
                    snapshot, head, with_vectors=searched, with_texts=texts, with_facts=facts
                )
                for place, found in zip(places, user.find(own), strict=True):
                    hits[place] = found
                if searched and (lacking := user.missing()):
                    missing[owner] = lacking
                if facts and (unembedded := user.missing_facts()):
                    missing_facts[owner] = unembedded
        return Found(hits, missing, missing_facts)

    def keep_up(self, snapshot: Snapshot, owners: Sequence[Owner]) -> None:
        """Bring those of these users who are held to what the snapshot sees; raises StoreError."""
        with self._lock:
            held = [owner for owner in owners if owner in self._users]
        for owner, head in snapshot.heads(held).items():
            with self._using(owner, head) as user:
                user.keep_up(snapshot, head)

    def guess(self, lookup: Lookup) -> tuple[Head, list[Hit]] | None:
        """Return what a lookup finds in what is held, and the head that this is right for.

        The store is not asked: compare the head with its own. None if too little is held to know.
        """
        owner = owner_of(lookup.scope)
        with self._lock:
            slot = self._users.get(owner)
            if slot is None:
                return None
            self._users.move_to_end(owner)
        with slot.lock:
            return slot.user.guess(lookup)

    def use(self, embedder: str) -> None:
        """Hold the vectors that the store keeps under this label; those of another are dropped."""
        with self._lock:
            if embedder == self._embedder:
                return
            self._embedder = embedder
            self._users.clear()
            self._bytes = self._dim = 0
            if self._path is not None:
                self._file = IndexFile(self._path, embedder)

    def clear(self) -> None:
        """Forget everything; it is read again from the store when asked for."""
        with self._lock:
            self._users.clear()
            self._bytes = 0

    def drop(self, owner: Owner) -> None:
        """Forget a user; it is read again from the store when asked for."""
        with self._lock:
            self._drop(owner)

    def forget(self, owner: Owner) -> None:
        """Forget a user here and on the disk: nothing of theirs stays in the file."""
        self.drop(owner)
        if self._file is not None:
            self._file.remove()  # another process may have written it anew: do not look inside

    @property
    def is_worth_saving(self) -> bool:
        """Whether what was read from the store since the last saving is a good part of the file.

        Saving writes the whole file: done only then, it costs little for each event in the long run.
        """
        if self._file is None:
            return False
        with self._lock:
            taken = sum(slot.user.taken for slot in self._users.values())
        saved = sum(head.event_count for head in self._file.heads.values())
        return taken > 0 and 4 * taken >= saved

    def save(self, snapshot: Snapshot) -> int:
        """Write the users held to the file, atomically, and keep those that are in it.

        Those that the store has moved on from are left out. Returns how many users are in the
        file then. Raises ValueError without a file.
        """
        if self._file is None:
            raise ValueError("this index has no file; give Index(..., file=)")
        with self._lock:
            slots = list(self._users.items())
        saved = self._file.heads
        heads = snapshot.heads(list({owner for owner, _ in slots} | saved.keys()))
        written: set[Owner] = set()

        def parts() -> Iterator[tuple[Owner, Part]]:
            for owner, slot in slots:
                with slot.lock:
                    part = slot.user.part()
                    if part is not None and part.head == heads.get(owner):
                        written.add(owner)
                        yield owner, part
                        slot.user.taken = 0
            for owner, head in saved.items():
                if owner not in written and head == heads.get(owner):
                    part = self._file.read(owner) if self._file is not None else None
                    if part is not None:
                        written.add(owner)
                        yield owner, part

        self._file.write(parts())
        return len(written)

    def unsave(self, snapshot: Snapshot) -> bool:
        """Remove the file if it holds what the store, as a later reader sees it, has lost.

        Somebody may be forgotten between the reader of `save` and the new file's name.
        """
        if self._file is None:
            return False
        heads = snapshot.heads(list(self._file.heads))
        for owner, then in self._file.heads.items():
            now = heads.get(owner)
            if now is None or now.epoch != then.epoch or now.event_count < then.event_count:
                self._file.remove()
                return True
        return False

    def verify(self, snapshot: Snapshot) -> list[Owner]:
        """Compare what is held, and what the file keeps, with the store by checksum.

        Returns who differed; they are dropped, and so is the file if it was wrong about one.
        """
        return self._verify_held(snapshot) + self._verify_file(snapshot)

    def _verify_file(self, snapshot: Snapshot) -> list[Owner]:
        if self._file is None:
            return []
        saved = self._file.heads
        heads = snapshot.heads(list(saved))
        differing = []
        for owner, then in saved.items():
            head, part = heads.get(owner), self._file.read(owner)
            if head is None or head.epoch != then.epoch:
                continue  # of a user who is gone: never used
            if part is not None:
                user = UserIndex(owner, self._embedder)
                user.load(part)
                user.follow(snapshot, head, with_vectors=False)
                if user.checksum() == user.checksum_of(snapshot):
                    continue
            differing.append(owner)
        if differing:
            self._file.remove()
        return differing

    def _verify_held(self, snapshot: Snapshot) -> list[Owner]:
        with self._lock:
            slots = list(self._users.items())
        heads = snapshot.heads([owner for owner, _ in slots])
        differing = []
        for owner, slot in slots:
            with slot.lock:
                head = heads.get(owner)
                if head is not None and len(slot.user):
                    slot.user.follow(snapshot, head, with_vectors=False)
                    if slot.user.checksum() == slot.user.checksum_of(snapshot):
                        continue
                    differing.append(owner)
                    self.observer.count("index_repairs")
                slot.user.clear()
            self.drop(owner)
        return differing

    @contextmanager
    def _using(self, owner: Owner, head: Head) -> Iterator[UserIndex]:
        """Give a user's index, for this thread alone, and count its memory afterwards."""
        with self._lock:
            slot = self._users.get(owner)
            if slot is None:
                slot = self._users[owner] = _Slot(UserIndex(owner, self._embedder))
                slot.counted = (EVENT_BYTES + 4 * self._dim) * head.event_count
                self._bytes += slot.counted
            self._users.move_to_end(owner)
            self._evict(owner)
        with slot.lock:
            if self._file is not None and not len(slot.user) and owner in self._file:
                part = self._file.read(owner)
                if part is not None and part.head.epoch == head.epoch:
                    slot.user.load(part)
            try:
                yield slot.user
            finally:
                self._count(owner, slot)

    def _count(self, owner: Owner, slot: _Slot) -> None:
        size = slot.user.nbytes
        if size == slot.counted:
            return
        with self._lock:
            self._dim = self._dim or slot.user.dim
            if self._users.get(owner) is slot:  # else it was dropped meanwhile
                self._bytes += size - slot.counted
                slot.counted = size
                self._evict(owner)
                if self._bytes > self.max_bytes:
                    self._drop(owner)

    def _evict(self, keep: Owner) -> None:
        while self._bytes > self.max_bytes and (oldest := next(iter(self._users))) != keep:
            self._drop(oldest)
            self.observer.count("index_evictions")

    def _drop(self, owner: Owner) -> None:
        slot = self._users.pop(owner, None)
        if slot is not None:
            self._bytes -= slot.counted

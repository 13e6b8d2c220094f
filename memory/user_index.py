"""One user's index: the events in time order, and exact search among their vectors.

"Before this one" is a slice of that order, and what a request may see is settled before the
nearest are taken, so that no filter starves anybody.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from persona_agent.errors import StoreError, UnknownInteraction
from persona_agent.memory.fact_index import FactIndex
from persona_agent.memory.fact_reading import read_fact_vectors, read_facts
from persona_agent.memory.flat import FlatSearch
from persona_agent.memory.index_file import Part
from persona_agent.memory.lexicon import Lexicon, salience_of
from persona_agent.memory.lookup import Hit, Lookup
from persona_agent.memory.ranking import decay
from persona_agent.memory.rows import Owner, Row, to_interaction
from persona_agent.memory.search import View, search
from persona_agent.memory.snapshot import Head, Place, Snapshot, unknown
from persona_agent.types import Explanation, Fact, FloatArray, Scope

RELOAD = 64  # so many changes, or a quarter of the events if more, are not taken over one by one
SOME = 8192  # vectors read at once, so that a large user is not in memory twice
NO_WORDS = Lexicon()  # of a search that asks for none
EVENT_BYTES = 260  # of an event's place: its id, its rank by id, its numbers (measured)


class UserIndex:
    """One user's events in time order, and their vectors once they have been asked for."""

    def __init__(self, owner: Owner, embedder: str) -> None:
        self._owner = owner
        self._embedder = embedder
        self._head: Head | None = None
        self._flat: FlatSearch | None = None
        self._lexicon: Lexicon | None = None
        self._facts: FactIndex | None = None
        self.taken = 0  # events read from the store since this was last saved
        self._end = 0
        self._place([])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """The memory this takes, by estimate."""
        parts = (self._flat, self._lexicon, self._facts)
        return 1000 + EVENT_BYTES * len(self) + sum(part.nbytes for part in parts if part)

    @property
    def dim(self) -> int:
        """The length of a vector; 0 while none is known."""
        return self._flat.dim if self._flat else 0

    def follow(
        self,
        snapshot: Snapshot,
        head: Head,
        *,
        with_vectors: bool,
        with_texts: bool = False,
        with_facts: bool = False,
    ) -> None:
        """Become what the store holds at the snapshot, whose head of this user is `head`.

        What does not agree with the store's count is read anew. Raises StoreError if the store
        contradicts itself; the index is empty then.
        """
        try:
            if self._is_ahead_of(head) and (self._flat is not None or not with_vectors):
                self._end = head.event_count
            else:
                self._update(snapshot, head)
            if with_vectors and self._flat is None:
                self._read_vectors(snapshot)
            if with_texts:
                self._read_texts(snapshot)
            if with_facts:
                self._read_facts(snapshot, head.fact_seq)
        except BaseException:
            self.clear()
            raise

    def keep_up(self, snapshot: Snapshot, head: Head) -> None:
        """Follow with what is held: no part is read that nobody has asked for."""
        self.follow(
            snapshot,
            head,
            with_vectors=self._flat is not None,
            with_texts=self._lexicon is not None,
            with_facts=self._facts is not None,
        )

    def clear(self) -> None:
        """Hold nothing; it is read again when it is followed."""
        self._head = self._flat = self._lexicon = None
        self._place([])

    def part(self) -> Part | None:
        """Return this as a part of a file, good until the next change; None if it holds nothing."""
        if self._head is None:
            return None
        names = {code: name for name, code in self._codes.items()}
        places = [
            Place(*one[:3], names[one[3]], names[one[4]])
            for one in zip(
                self._ids, self._whens, self._seqs, self._agents, self._runs, strict=True
            )
        ]
        if self._flat is None:
            return Part(self._head, places, None, None)
        return Part(self._head, places, self._flat.present, self._flat.vectors)

    def load(self, part: Part) -> None:
        """Become what a file kept; `follow` brings it up to date."""
        self._place(part.places)
        self._head = part.head
        self._flat = self._lexicon = None
        if part.vectors is not None and part.present is not None:
            there = np.flatnonzero(part.present)
            self._flat = FlatSearch.filled(len(self), there, part.vectors[there])

    def checksum(self) -> str:
        """Return a checksum over ids, order and vectors; what the store holds has `checksum_of`."""
        part = self.part()
        if part is None:
            return ""
        return _checksum([place.id for place in part.places], part.present, part.vectors)

    def checksum_of(self, snapshot: Snapshot) -> str:
        """Return the checksum that this would have if it were read anew from the store."""
        fresh = UserIndex(self._owner, self._embedder)
        head = snapshot.heads([self._owner])[self._owner]
        fresh.follow(snapshot, head, with_vectors=self._flat is not None)
        return fresh.checksum()

    def missing(self) -> list[str]:
        """Return the ids of events that have no vector, though vectors are loaded."""
        if self._flat is None or self._flat.is_whole:
            return []
        return [self._ids[rank] for rank in np.flatnonzero(~self._flat.present[: self._end])]

    def missing_facts(self) -> list[Fact]:
        """Return the facts that have no vector, if facts are loaded."""
        return [] if self._facts is None else self._facts.missing()

    def guess(self, lookup: Lookup) -> tuple[Head, list[Hit]] | None:
        """Return what a lookup finds in what is held, and the head that this is right for.

        None if too little is held to know.
        """
        head, facts = self._head, self._facts
        if head is None:
            return None
        if lookup.vector is not None and (self._flat is None or not self._flat.is_whole):
            return None
        if lookup.needs_texts and (self._lexicon is None or len(self._lexicon) < len(self)):
            return None
        if lookup.needs_facts:
            if facts is None or facts.missing():
                return None
            head = replace(head, fact_seq=facts.seq)
        self._end = len(self)
        try:
            return head, self.find([lookup])[0]
        except UnknownInteraction:
            return None

    def find(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        """Return the hits of each lookup, in order: best first; equal scores, earlier first.

        Without a vector: the latest, oldest first. Raises UnknownInteraction for a `before` that
        is not an event of this user.
        """
        found: list[list[Hit]] = []
        for lookup in lookups:
            end = self._before(lookup.before)
            if lookup.until is not None:
                end = bisect_right(self._whens, lookup.until, 0, end)
            allowed = self._allowed(lookup.scope, end)
            if lookup.vector is None:
                ranks = self._latest(allowed, end, lookup.k)
                count = len(ranks)
                found.append([Hit(self._ids[r], 1 / (count - i)) for i, r in enumerate(ranks)])
            else:
                found.append(self._search(lookup, lookup.vector, end, allowed))
        return found

    def _search(
        self,
        lookup: Lookup,
        vector: FloatArray,
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> list[Hit]:
        now = self._now(lookup, end)
        views: list[View] = []
        if "event" in lookup.kinds:
            views.append(self._events(lookup, end, allowed, now))
        if lookup.needs_facts and self._facts is not None:
            facts = self._facts.view(
                end, allowed, now=now, half_life=lookup.half_life, salience=lookup.salience
            )
            views += [] if facts is None else [facts]
        if not views:
            return []
        best = search(views, vector, lookup.words, lookup.k, explain=lookup.explain)
        if not lookup.needs_facts:
            return [Hit(self._ids[rank], score, why) for _, rank, score, why in best]
        return [
            Hit(self._ids[rank], score, why)
            if number == 0 and "event" in lookup.kinds
            else self._fact_hit(rank, score, why, end)
            for number, rank, score, why in best
        ]

    def _events(
        self, lookup: Lookup, end: int, allowed: npt.NDArray[np.bool_] | None, now: int
    ) -> View:
        if self._flat is None:
            raise StoreError("vectors were not loaded before a search; call follow first")
        aged = None
        if lookup.half_life is not None and end:
            whens = np.frombuffer(self._whens, np.int64)[:end]
            aged = decay((now - whens) / 1e6, lookup.half_life)
        mattering = self._texts.salience[:end] if lookup.salience else None
        return View(self._flat, self._lexicon or NO_WORDS, end, allowed, aged, mattering)

    def _fact_hit(self, rank: int, score: float, why: Explanation | None, end: int) -> Hit:
        if self._facts is None:
            raise StoreError("facts were not loaded before a search; call follow first")
        fact = self._facts.known(rank, end)
        return Hit(fact.evidence[-1], score, why, fact)

    def _now(self, lookup: Lookup, end: int) -> int:
        """Return the moment that ages are counted from, in microseconds."""
        if lookup.until is not None:
            return lookup.until
        if lookup.before is not None:
            return int(self._whens[self._rank[lookup.before]])
        return int(self._whens[end - 1]) if end else 0

    @property
    def _texts(self) -> Lexicon:
        if self._lexicon is None:
            raise StoreError("texts were not loaded before a search by words; call follow first")
        return self._lexicon

    def _before(self, before: str | None) -> int:
        if before is None:
            return self._end
        rank = self._rank.get(before)
        if rank is None or rank >= self._end:
            raise unknown(self._owner, before)
        return rank

    def _allowed(self, scope: Scope, end: int) -> npt.NDArray[np.bool_] | None:
        """Return which of the first `end` events are in the scope; None for all."""
        allowed = None
        for wanted, codes in ((scope.agent, self._agents), (scope.run, self._runs)):
            if wanted is not None:
                code = self._codes.get(wanted, -1)
                fits = np.frombuffer(codes, np.int32)[:end] == code if end else np.zeros(0, bool)
                allowed = fits if allowed is None else allowed & fits
        return allowed

    @staticmethod
    def _latest(allowed: npt.NDArray[np.bool_] | None, end: int, k: int) -> Sequence[int]:
        if allowed is None:
            return range(max(0, end - k), end)
        ranks: list[int] = np.flatnonzero(allowed).tolist()
        return ranks[max(0, len(ranks) - k) :]

    def _is_ahead_of(self, head: Head) -> bool:
        """Return whether only additions at the end set this apart from an older head.

        A reader that began earlier is then served from what is here, cut at its own end.
        """
        mine = self._head
        if mine is None or mine.epoch != head.epoch or head.next_seq >= mine.next_seq:
            return False
        added = mine.event_count - head.event_count
        if added != mine.next_seq - head.next_seq:
            return False
        return all(seq >= head.next_seq for seq in self._seqs[head.event_count :])

    def _update(self, snapshot: Snapshot, head: Head) -> None:
        caught_up = self._head == head or self._catch_up(snapshot, head)
        if not caught_up or len(self) != head.event_count:
            self._place(snapshot.order(self._owner))
            self._flat = self._lexicon = None
        if len(self) != head.event_count:
            raise StoreError(
                f"user {self._owner[1]!r} has {len(self)} events, but {head.event_count} are "
                "counted; the database was changed by another program"
            )
        self._head = head
        self._end = len(self)

    def _read_vectors(self, snapshot: Snapshot) -> None:
        self.taken += len(self)
        flat = FlatSearch.filled(len(self), (), np.zeros((0, 0), np.float32))
        if len(self) <= SOME:
            ids, vectors = snapshot.vectors(self._owner, self._embedder)
            flat.put(self._ranks(ids), vectors)
        else:
            for start in range(0, len(self), SOME):
                some = self._ids[start : start + SOME]
                ids, vectors = snapshot.vectors(self._owner, self._embedder, some)
                flat.put(self._ranks(ids), vectors)
        self._flat = flat

    def _catch_up(self, snapshot: Snapshot, head: Head) -> bool:
        """Take over what was written since this index's head; false if all must be read anew."""
        mine = self._head
        if mine is None or mine.epoch != head.epoch or head.next_seq < mine.next_seq:
            return False
        most = max(RELOAD, len(self) // 4)
        changed = list(dict.fromkeys(snapshot.changed(self._owner, mine.next_seq, most + 1)))
        if len(changed) > most:
            return False
        places = snapshot.places(self._owner, changed)
        there = {place.id for place in places}
        gone = [event_id for event_id in changed if event_id not in there]
        new = [place for place in places if place.id not in self._rank]
        moved = any(
            place.id in self._rank and self._seqs[self._rank[place.id]] != place.seq
            for place in places  # deleted and added again: its number is new, its place may be
        )
        if moved or any(event_id in self._rank for event_id in gone):
            return False
        self.taken += len(places)
        self._insert(new)
        if self._lexicon is not None:
            self._check_texts(snapshot, sorted(there))
        if self._flat is not None:
            ids, vectors = snapshot.vectors(self._owner, self._embedder, sorted(there))
            self._flat.clear(self._ranks(list(there)))
            self._flat.put(self._ranks(ids), vectors)
        return True

    def _read_texts(self, snapshot: Snapshot) -> None:
        """Take in the texts that are not in the lexicon yet."""
        lexicon = self._lexicon or Lexicon()
        for start in range(len(lexicon), self._end, SOME):
            ids = self._ids[start : min(start + SOME, self._end)]
            rows = snapshot.rows(self._owner, ids)
            for event_id in ids:
                lexicon.add(*_text(rows[event_id]))
        self._lexicon = lexicon

    def _read_facts(self, snapshot: Snapshot, seq: int) -> None:
        """Take in the facts, unless those held are of this write already."""
        if self._facts is not None and self._facts.seq == seq:
            return
        found: list[Fact] = []
        vectors: Mapping[str, FloatArray] = {}
        if seq:
            found = read_facts(snapshot.connection, self._owner)
            vectors = read_fact_vectors(snapshot.connection, self._owner, self._embedder)
        self._facts = FactIndex(seq, found, self._rank, self._whens, vectors)

    def _check_texts(self, snapshot: Snapshot, ids: Sequence[str]) -> None:
        """Drop the lexicon if one of these events has another text than it has there."""
        known = [one for one in ids if self._rank[one] < len(self._texts)]
        rows = snapshot.rows(self._owner, known)
        if not all(self._texts.holds(self._rank[one], *_text(rows[one])) for one in known):
            self._lexicon = None

    def _insert(self, new: Sequence[Place]) -> None:
        """Put events where they belong in time, and what is held after them behind."""
        if not new:
            return
        first = (new[0].when, new[0].seq)
        start = len(self)
        while start and (self._whens[start - 1], self._seqs[start - 1]) > first:
            start -= 1
        held = list(range(start, len(self)))
        names = {code: name for name, code in self._codes.items()}
        later = [
            Place(self._ids[rank], self._whens[rank], self._seqs[rank],
                  names[self._agents[rank]], names[self._runs[rank]])
            for rank in held
        ]  # fmt: skip
        for part in (self._ids, self._whens, self._seqs, self._agents, self._runs):
            del part[start:]
        for place in sorted((*later, *new), key=lambda one: (one.when, one.seq)):
            self._append(place)
        if later:
            self._facts = None  # they are placed among the events
            if self._lexicon is not None and start < len(self._lexicon):
                self._lexicon = None
        if self._flat is not None:
            self._flat.grow(len(self))
            self._flat.move(held, self._ranks([place.id for place in later]))

    def _place(self, places: Sequence[Place]) -> None:
        ids, whens, seqs, agents, runs = zip(*places, strict=True) if places else [()] * 5
        self._ids: list[str] = list(ids)
        self._rank: dict[str, int] = dict(zip(ids, range(len(ids)), strict=True))
        self._seqs = array("q", seqs)
        self._whens = array("q", whens)
        self._codes: dict[str | None, int] = {None: 0}
        for name in dict.fromkeys((*agents, *runs)):
            self._code(name)
        self._agents = array("i", map(self._codes.__getitem__, agents))
        self._runs = array("i", map(self._codes.__getitem__, runs))
        self._end = len(ids)
        self._facts = None  # they are placed among the events

    def _append(self, place: Place) -> None:
        self._rank[place.id] = len(self._ids)
        self._ids.append(place.id)
        self._seqs.append(place.seq)
        self._whens.append(place.when)
        self._agents.append(self._code(place.agent))
        self._runs.append(self._code(place.run))

    def _code(self, name: str | None) -> int:
        return self._codes.setdefault(name, len(self._codes))

    def _ranks(self, ids: Sequence[str]) -> list[int]:
        return [self._rank[event_id] for event_id in ids]


def _text(row: Row) -> tuple[str, float]:
    return to_interaction(row).text, salience_of(str(row["metadata"]))


def _checksum(
    ids: Sequence[str], present: npt.NDArray[np.bool_] | None, vectors: FloatArray | None
) -> str:
    digest = hashlib.blake2b("\n".join(map(repr, ids)).encode(), digest_size=16)
    if present is not None and vectors is not None:
        digest.update(present.tobytes())
        for start in range(0, len(vectors), SOME):
            some = slice(start, start + SOME)
            digest.update(np.ascontiguousarray(vectors[some][present[some]], "<f4").tobytes())
    return digest.hexdigest()

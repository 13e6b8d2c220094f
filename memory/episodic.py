"""Episodic memory: what happened, remembered and recalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from persona_agent.errors import StoreError, UnknownInteraction
from persona_agent.memory.fact_rows import put_fact_vectors
from persona_agent.memory.generations import label_of
from persona_agent.memory.index import Index
from persona_agent.memory.lookup import Hit, Lookup
from persona_agent.memory.rerank import pool_of, rerank
from persona_agent.memory.retrievals import Retrievals
from persona_agent.memory.rows import Added, Owner, microseconds, owner_of
from persona_agent.memory.snapshot import seen_at_once
from persona_agent.memory.store import Store
from persona_agent.memory.telemetry import SILENT, Observer
from persona_agent.memory.tokens import estimate_tokens
from persona_agent.ports import Embedder, Reranker
from persona_agent.types import (
    Fact,
    FloatArray,
    Interaction,
    Recalled,
    RecallReply,
    RecallRequest,
    Scope,
)

__all__ = ["EpisodicMemory", "estimate_tokens"]

ATTEMPTS = 20  # each embeds all that lacks a vector; more are needed only while others write
FLUSH = 5000  # so many memories with counts are written with the next add
CHANGEABLE = ("query", "response", "outcome", "item", "options", "metadata")


class EpisodicMemory:
    """A store, an embedder and an index, as one memory. It is a `Memory` port.

    Interactions that lack a vector, because they were stored without one or changed since, get one
    before they are searched: nothing stored is ever left out of a search. An embedder other than
    the one that made the database's vectors is refused with EmbedderChanged, see `generations`.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        index: Index | None = None,
        *,
        reranker: Reranker | None = None,
        observer: Observer = SILENT,
    ) -> None:
        """Use `index`, by default a new one; it takes over the label of the store's vectors.

        A `reranker` scores what searches find, by query and text, and has the last word. An
        `observer` is told what is done, see `telemetry`; by default nobody is.
        """
        self.store = store
        self.embedder = embedder
        self.index = Index(embedder.name) if index is None else index
        self.index.observer = observer
        self.reranker = reranker
        self._observer = observer
        self._label: str | None = None
        self._retrievals = Retrievals()

    def close(self, now: datetime) -> None:
        """Write what was only in memory: counts of retrievals, and the index if it is worth it.

        The store stays open. Neither is part of the truth, so a disk that refuses is no error
        here; an observer is told.
        """
        try:
            self._retrievals.write(self.store, now)
            if self.index.is_worth_saving:
                self.save_index()
        except StoreError:
            self._observer.count("close_failures")

    def add(
        self,
        interactions: Sequence[Interaction],
        now: datetime,
        *,
        vectors: FloatArray | None = None,
        idempotency_key: str | None = None,
    ) -> list[Added]:
        """Embed and store interactions in one transaction; return what became of each, in order.

        `vectors`, of shape (n, dim), are used if this embedder has made them already. See
        `Store.add`.
        """
        if not interactions:
            return []
        label = self.label()
        if vectors is None:
            vectors = self._embed([one.text for one in interactions])
        with self._observer.span("add", len(interactions)):
            results = self.store.add(
                interactions, vectors, label, now=now, idempotency_key=idempotency_key
            )
        if len(self._retrievals) >= FLUSH:
            self._retrievals.write(self.store, now)
        self._observer.count("adds", len(results))
        self._observer.count("added", sum(one.event == "ADD" for one in results))
        return results

    def keep_up(self, scopes: Sequence[Scope]) -> None:
        """Let the index take over what was written of users it holds, before they ask again."""
        owners = list({owner_of(scope) for scope in scopes})
        with self.store.snapshot() as snapshot:
            self.index.keep_up(snapshot, owners)

    def label(self) -> str:
        """Return the label of this embedder's vectors in the store.

        Raises EmbedderChanged if the store's are of another embedder.
        """
        if self._label is None:
            self._label = label_of(self.store, self.embedder)
            self.index.use(self._label)
        return self._label

    def update(
        self, scope: Scope, event_id: str, changes: Mapping[str, Any], now: datetime
    ) -> Interaction:
        """Change some fields of an interaction and return it; see `Store.update`.

        A changed text is embedded when it is next searched.
        Any: the values are checked as those of an Interaction. Raises UnknownInteraction, or
        ValueError for a field that cannot be changed.
        """
        if unknown := sorted(set(changes) - set(CHANGEABLE)):
            raise ValueError(f"cannot change {', '.join(unknown)}; only {', '.join(CHANGEABLE)}")
        return self.store.update(scope, event_id, **changes, now=now)

    def delete(self, scope: Scope, event_id: str, now: datetime) -> None:
        """Delete an interaction, in the index too; see `Store.delete`."""
        self.store.delete(scope, event_id, now)
        self.index.forget(owner_of(scope))

    def delete_all(self, scope: Scope, now: datetime) -> int:
        """Delete all that is kept about a user, in the index too; see `Store.delete_all`."""
        gone = self.store.delete_all(scope, now)
        self.index.forget(owner_of(scope))
        return gone

    def save_index(self) -> int:
        """Save the index to its file, so that a reopened process is warm; return how many users."""
        with self.store.snapshot() as snapshot:
            saved = self.index.save(snapshot)
        with self.store.snapshot() as snapshot:
            return 0 if self.index.unsave(snapshot) else saved

    def recall(
        self,
        requests: Sequence[RecallRequest],
        *,
        vectors: Sequence[FloatArray | None] | None = None,
    ) -> list[RecallReply]:
        """Return one reply a request, in order. An unknown user has no memories.

        `recent` gives the latest, oldest first, scored 1 for the latest, 1/2, 1/3 before it.
        `similar` gives the nearest, best first, scored by cosine; of equals, the earlier first;
        an empty query is similar to nothing. `hybrid` weighs the cosine and how much of the query
        a text says into one score from 0 to 1. All take `k`, then leave out what does not fit into
        `max_tokens`, the latest or best being kept.

        All queries are embedded in one call; `vectors` has one a request, or None, that this
        embedder has made already. A `before` that is not an interaction of the user
        makes the `error` of its own reply, and disturbs no other.
        """
        given = [None] * len(requests) if vectors is None else vectors
        if len(given) != len(requests):
            raise ValueError(f"{len(given)} vectors are given for {len(requests)} requests")
        with self._observer.span("recall", len(requests)):
            try:
                replies = self._recall(requests, given)
            except UnknownInteraction:
                return self._recall_known(requests, given)
        for request, reply in zip(requests, replies, strict=True):
            ids = [one.interaction.id for one in reply.memories]
            self._retrievals.note(owner_of(request.scope), ids)
        self._observer.count("recalls", len(replies))
        self._observer.count("recalled", sum(len(reply.memories) for reply in replies))
        return replies

    def _recall_known(
        self, requests: Sequence[RecallRequest], vectors: Sequence[FloatArray | None]
    ) -> list[RecallReply]:
        """Return the replies of requests one of which has an unknown `before`."""
        replies: dict[int, RecallReply] = {}
        with self.store.snapshot() as snapshot:
            for place, request in enumerate(requests):
                if request.before is not None:
                    try:
                        snapshot.row(request.scope.owner, request.before)
                    except UnknownInteraction as error:
                        replies[place] = RecallReply(error=str(error))
        good = [place for place in range(len(requests)) if place not in replies]
        served = self.recall(
            [requests[place] for place in good], vectors=[vectors[place] for place in good]
        )
        replies |= dict(zip(good, served, strict=True))
        return [replies[place] for place in range(len(requests))]

    def _recall(
        self, requests: Sequence[RecallRequest], given: Sequence[FloatArray | None]
    ) -> list[RecallReply]:
        lookups = self._lookups(requests, given)
        if any(lookup.vector is not None for lookup in lookups):
            self.label()
        pairs = self._glance(lookups) or self._find(lookups)
        if self.reranker is not None:
            pairs = rerank(self.reranker, requests, pairs)
        return [_reply(request, one) for request, one in zip(requests, pairs, strict=True)]

    def _glance(self, lookups: Sequence[Lookup]) -> list[list[tuple[Interaction, Hit]]] | None:
        """Return what the lookups of one user find, if the index holds what the store holds.

        Else None. The store is asked once, for what was found and whether it may be believed.
        """
        owners = {owner_of(lookup.scope) for lookup in lookups}
        if len(owners) != 1:
            return None
        guesses = [self.index.guess(lookup) for lookup in lookups]
        if any(guess is None for guess in guesses):
            return None
        known = [guess for guess in guesses if guess is not None]
        ids = dict.fromkeys(hit.id for _, hits in known for hit in hits)
        with self.store.database.glance() as connection:
            seen = seen_at_once(connection, owners.pop(), list(ids))
        if seen is None:
            return None
        now, there = seen
        for lookup, (head, _) in zip(lookups, known, strict=True):
            if head != now or (lookup.needs_facts and head.fact_seq != now.fact_seq):
                return None
        if not ids.keys() <= there.keys():
            return None  # another program changed the store: `_find` says so
        return [[(there[hit.id], hit) for hit in hits] for _, hits in known]

    def _find(self, lookups: Sequence[Lookup]) -> list[list[tuple[Interaction, Hit]]]:
        """Return what each lookup finds, after the index has taken over what was written since."""
        for _ in range(ATTEMPTS):
            with self.store.snapshot() as snapshot:
                found = self.index.find(snapshot, lookups)
                if found.is_whole:
                    refs = [
                        (owner_of(lookup.scope), hit.id)
                        for lookup, hits in zip(lookups, found.hits, strict=True)
                        for hit in hits
                    ]
                    interactions = iter(snapshot.interactions(refs))
                    break
            self._label = None  # another process may have switched embedders: look again
            self._embed_missing(found.missing)
            self._embed_facts(found.missing_facts)
        else:
            raise StoreError(
                "interactions are written faster than they can be embedded; add them with vectors"
            )
        return [[(next(interactions), hit) for hit in hits] for hits in found.hits]

    def _lookups(
        self, requests: Sequence[RecallRequest], given: Sequence[FloatArray | None]
    ) -> list[Lookup]:
        asked = zip(requests, given, strict=True)
        queries = list(dict.fromkeys(r.query for r, v in asked if v is None and _is_search(r)))
        made = dict(zip(queries, self._embed(queries), strict=True)) if queries else {}
        return [
            self._lookup(request, made.get(request.query) if vector is None else vector)
            for request, vector in zip(requests, given, strict=True)
        ]

    def _lookup(self, request: RecallRequest, vector: FloatArray | None) -> Lookup:
        searched = request.mode != "recent" and vector is not None
        k = request.k if request.mode == "recent" or searched else 0
        if searched and self.reranker is not None:
            k = pool_of(request)
        return Lookup(
            request.scope,
            k,
            vector if searched and k else None,
            request.before,
            request.query if searched and k and request.mode == "hybrid" else None,
            None if request.as_of is None else microseconds(request.as_of),
            None if request.half_life is None else request.half_life.total_seconds(),
            request.salience,
            request.explain,
            request.kinds,
        )

    def _embed(self, texts: Sequence[str]) -> FloatArray:
        with self._observer.span("embed", len(texts)):
            vectors = self.embedder.embed(texts)
        self._observer.count("embedded", len(texts))
        return vectors

    def _embed_missing(self, missing: Mapping[Owner, Sequence[str]]) -> None:
        if not missing:
            return
        self.label()
        refs = [(owner, event_id) for owner, ids in missing.items() for event_id in ids]
        with self.store.snapshot() as snapshot:
            there = {owner: snapshot.rows(owner, ids) for owner, ids in missing.items()}
            interactions = snapshot.interactions([r for r in refs if r[1] in there[r[0]]])
        vectors = self._embed([one.text for one in interactions])
        for owner in missing:
            own = [i for i, one in enumerate(interactions) if owner_of(one.scope) == owner]
            scope = Scope(owner[1], owner[0])
            self.store.put_vectors(
                scope, [interactions[i] for i in own], vectors[own], self.label()
            )

    def _embed_facts(self, missing: Mapping[Owner, Sequence[Fact]]) -> None:
        if missing:
            label = self.label()
            vectors = self._embed([one.text for some in missing.values() for one in some])
            start = 0
            for (tenant, user), some in missing.items():
                own = vectors[start : start + len(some)]
                put_fact_vectors(self.store, Scope(user, tenant), some, own, label)
                start += len(some)


def _is_search(request: RecallRequest) -> bool:
    return request.mode != "recent" and bool(request.query) and request.k > 0


def _reply(request: RecallRequest, found: Sequence[tuple[Interaction, Hit]]) -> RecallReply:
    """Return what fits into the request's budget, the latest or best first to be kept."""
    latest_first = request.mode == "recent"
    if sum(_most_tokens(interaction, hit) for interaction, hit in found) <= request.max_tokens:
        return RecallReply(tuple(_recalled(request, one, hit) for one, hit in found))
    left = request.max_tokens
    kept: list[Recalled] = []
    for interaction, hit in reversed(found) if latest_first else found:
        tokens = estimate_tokens(hit.text(interaction))
        if tokens <= left:
            left -= tokens
            kept.append(_recalled(request, interaction, hit))
    return RecallReply(tuple(kept[::-1] if latest_first else kept))


def _recalled(request: RecallRequest, one: Interaction, hit: Hit) -> Recalled:
    return Recalled(one, hit.score, request.mode, hit.explanation, hit.fact)


def _most_tokens(one: Interaction, hit: Hit) -> int:
    """Return a number that `estimate_tokens` of what was found cannot exceed, quickly."""
    if hit.fact is not None:
        return 3 * len(hit.fact.text)
    length = len(one.query) + len(one.response or "") + len(one.outcome or "") + 2
    return 3 * length

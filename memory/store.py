"""The store: the truth about what happened to whom, and what was made of it.

SQL through SQLAlchemy Core, the same over SQLite and PostgreSQL. Every call that writes
is one transaction and returns after its commit: what it reported is on the disk, and if it raised,
nothing of it is. Every function takes a scope; nothing crosses tenants or users.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, insert

from persona_agent.errors import (
    IdempotencyConflict,
    PersonaConflict,
    UnknownInteraction,
)
from persona_agent.memory.adapter_rows import discard, touching
from persona_agent.memory.failpoint import failpoint
from persona_agent.memory.lineage import erase, release
from persona_agent.memory.persona_store import PersonaStore
from persona_agent.memory.rows import (
    EPOCH,
    Added,
    Change,
    Owner,
    Row,
    StoredPersona,
    microseconds,
    owner_of,
    takes_away,
    to_interaction,
    to_row,
)
from persona_agent.memory.schema import receipts
from persona_agent.memory.screen import Screened, Trust, is_small_talk, screened
from persona_agent.memory.snapshot import Snapshot, key
from persona_agent.memory.writing import Batch, blobs_of, waiting_job
from persona_agent.types import FloatArray, Interaction, Json, Scope, check_id

__all__ = [
    "Added",
    "Change",
    "PersonaConflict",
    "Store",
    "StoredPersona",
    "UnknownInteraction",
]


class Store(PersonaStore):
    """Interactions, vectors, personas and alignments under way, by tenant and user.

    Safe to use from many threads, and from many processes on one file or server.
    """

    def add(
        self,
        interactions: Sequence[Interaction],
        vectors: FloatArray | None = None,
        embedder: str | None = None,
        *,
        now: datetime,
        idempotency_key: str | None = None,
        trust: Trust | None = None,
    ) -> list[Added]:
        """Store interactions of any users in one transaction; return what became of each, in order.

        `vectors`, of shape (n, dim), are `embedder`'s vectors of their texts. An id that is
        stored already is a SKIP, or an UPDATE if it brings an outcome or a response that was
        missing; see `decide`. Ids may repeat. What the screen refuses is a SKIP, what it redacts
        is stored without the vector that was made of the whole text.

        `idempotency_key`, for interactions of one user: the same write again returns what the
        first returned, and another write under the same key raises IdempotencyConflict. `trust`
        says who vouches for these interactions, by default their author.

        Raises StoreError, ValueError or TypeError, and has stored nothing then.
        """
        if not interactions:
            return []
        gated = [screened(one, self._screen) for one in interactions]
        rows = [to_row(one.interaction) for one in gated]
        blobs: Sequence[bytes | None] = blobs_of(vectors, embedder, len(rows)) or (
            [None] * len(rows)
        )
        by_owner: dict[Owner, list[int]] = {}
        for place, one in enumerate(interactions):
            by_owner.setdefault(owner_of(one.scope), []).append(place)
        if idempotency_key is not None:
            check_id(idempotency_key, "idempotency key")
            if len(by_owner) > 1:
                raise ValueError(
                    f"the interactions are of {len(by_owner)} users; with an idempotency key, "
                    "add those of one user at a time"
                )
        batch = Batch(microseconds(now), embedder, trust)
        results: dict[int, Added] = {}
        try:
            with self.database.write() as connection:
                for owner in sorted(by_owner):  # one order for all, so that writers cannot deadlock
                    places = by_owner[owner]
                    if idempotency_key is None and all(gated[i].refusal for i in places):
                        for i in places:  # nobody becomes known by junk
                            why, codes = gated[i].refusal or "", gated[i].codes
                            results[i] = Added(str(rows[i]["id"]), "SKIP", why, codes)
                        continue
                    seq = first = self._take(connection, owner, now, len(places), len(places))
                    if idempotency_key is not None:
                        self._check_key(connection, owner, idempotency_key, rows)
                    ids = [str(rows[place]["id"]) for place in places]
                    stored = Snapshot(connection).rows(owner, ids)
                    for place in places:
                        results[place] = self._add_one(
                            connection, batch, stored, gated[place], rows[place], blobs[place], seq
                        )
                        seq += 1
                    old = sum(results[place].event != "ADD" for place in places)
                    if old:
                        connection.execute(self.sql.count, {**key(owner), "by": -old})
                    if trust in (None, "user") and any(
                        results[i].event != "SKIP" and rows[i]["role"] == "user" for i in places
                    ):
                        self._enqueue(connection, owner, first, seq - 1, now)
                batch.write(connection, self.sql)
                done = [results[place] for place in range(len(rows))]
                if idempotency_key is not None:
                    self._keep_answer(connection, idempotency_key, rows, done, now)
                failpoint("add-before-commit")
        except _AnsweredBefore as before:
            return before.answer
        failpoint("add-after-commit")
        return done

    def update(
        self,
        scope: Scope,
        event_id: str,
        *,
        query: str | None = None,
        response: str | None = None,
        outcome: str | None = None,
        item: str | None = None,
        options: Sequence[str] | None = None,
        metadata: Mapping[str, Json] | None = None,
        vector: FloatArray | None = None,
        embedder: str | None = None,
        now: datetime,
    ) -> Interaction:
        """Change an interaction and return it; what is None stays. The old content is logged.

        If its text changes, its vectors go, and `vector`, of shape (dim,), takes their place. If
        something of it is replaced or taken away, adapters that learned from it go, too.
        Raises UnknownInteraction, or ValueError if nothing is to be changed.
        """
        given: dict[str, object] = {
            "query": query,
            "response": response,
            "outcome": outcome,
            "item": item,
            "options": None if options is None else tuple(options),
            "metadata": metadata,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if not given and vector is None:
            raise ValueError(
                "update has nothing to change; give query, response, outcome, item, options, "
                "metadata or vector"
            )
        if isinstance(options, str):
            raise TypeError(f"options is the text {options!r}; give a list of texts")
        blobs = blobs_of(None if vector is None else vector.reshape(1, -1), embedder, 1)
        owner = owner_of(scope)
        with self.database.write() as connection:
            self.lock(connection, owner)
            stored = Snapshot(connection).row(scope, event_id)
            before = to_interaction(stored)
            changed = replace(before, **given)  # type: ignore[arg-type]  # named above
            gated = screened(changed, self._screen)
            if gated.refusal is not None:
                raise ValueError(f"{gated.refusal}; nothing was changed")
            if gated.interaction is not changed:
                changed, blobs = gated.interaction, None
            row = {**stored, **to_row(changed)}
            if row["hash"] != stored["hash"] or blobs:
                seq = self._take(connection, owner, now, 1, 0)
                self._enqueue(connection, owner, seq, seq, now)
                batch = Batch(microseconds(now), embedder)
                batch.change(stored, row, blobs[0] if blobs else None, seq)
                batch.write(connection, self.sql)
            if takes_away(before, changed):
                touched = touching(connection, owner, [event_id])
                discard(connection, owner[0], touched, microseconds(now))
        return changed

    def put_vectors(
        self,
        scope: Scope,
        interactions: Sequence[Interaction],
        vectors: FloatArray,
        embedder: str,
    ) -> int:
        """Store vectors that are missing; return how many.

        A vector is stored only if the interaction still has the content that it was made from,
        so one that was changed or deleted meanwhile is left alone. Histories do not show it.
        """
        if not interactions:
            return 0
        rows = [to_row(one) for one in interactions]
        blobs = blobs_of(vectors, embedder, len(rows)) or []
        owner = owner_of(scope)
        batch = Batch(0, embedder)
        with self.database.write() as connection:
            self.lock(connection, owner)
            stored = Snapshot(connection).rows(owner, [one.id for one in interactions])
            fitting = [
                (row, blob)
                for row, blob in zip(rows, blobs, strict=True)
                if str(row["id"]) in stored and stored[str(row["id"])]["hash"] == row["hash"]
            ]
            if fitting:
                seq = self._take(connection, owner, EPOCH, len(fitting), 0)
                for number, (row, blob) in enumerate(fitting, start=seq):
                    batch.embed(row, blob)
                    batch.log(row, "EMBED", number, None)
                batch.write(connection, self.sql)
        return len(fitting)

    def delete(self, scope: Scope, event_id: str, now: datetime) -> None:
        """Delete an interaction: its content, vectors, and old contents in the log.

        That something was deleted, and when, stays in its history. Raises UnknownInteraction.
        """
        with self.database.write() as connection:
            self.lock(connection, owner_of(scope))
            row = Snapshot(connection).row(scope, event_id)
            self._delete(connection, [row], now)

    def delete_all(self, scope: Scope, now: datetime) -> int:
        """Delete all that is kept about a user; return the number of interactions deleted.

        A scope with an agent or a run deletes their interactions only, and nothing else.
        A user of whom nothing is stored is no error: 0 is returned.
        """
        owner = owner_of(scope)
        with self.database.write() as connection:
            self.lock(connection, owner)
            snapshot = Snapshot(connection)
            gone = snapshot.count(scope)
            if scope.agent is not None or scope.run is not None:
                ids = [one.id for one in snapshot.find(scope)]
                self._delete(connection, list(snapshot.rows(owner, ids).values()), now)
            else:
                erase(connection, self.sql, owner, microseconds(now))
        self.database.flush_log()
        return gone

    def _add_one(
        self,
        connection: Connection,
        batch: Batch,
        stored: dict[str, Row],
        gated: Screened,
        row: Row,
        blob: bytes | None,
        seq: int,
    ) -> Added:
        """Take one interaction that came through the gate into the batch, if it did."""
        if gated.refusal is not None:
            return Added(str(row["id"]), "SKIP", gated.refusal, gated.codes)
        if self._screen.duplicates and is_small_talk(gated.interaction):
            owner = str(row["tenant"]), str(row["user"])
            keys = {"query_": row["query"], "role_": row["role"], "id_": row["id"]}
            same = connection.execute(self.sql.repeated, {**key(owner), **keys}).scalar()
            if same is not None:
                why = f"{row['id']} says the same as {same}"
                return Added(str(row["id"]), "SKIP", why, ("repeated",))
        added = batch.add(stored, row, None if gated.codes else blob, seq)
        if not gated.codes:
            return added
        kinds = ", ".join(code.removeprefix("secret:") for code in gated.codes)
        reason = "; ".join(part for part in (added.reason, f"{kinds} removed") if part)
        return replace(added, reason=reason, codes=added.codes + gated.codes)

    def _enqueue(
        self, connection: Connection, owner: Owner, first: int, last: int, now: datetime
    ) -> None:
        """Ask for the outbox's jobs about these numbers; one that waits already is widened."""
        rows = [waiting_job(owner, kind, first, last, microseconds(now)) for kind in self._outbox]
        if rows:
            connection.execute(self.sql.enqueue, rows)

    def _check_key(
        self, connection: Connection, owner: Owner, name: str, rows: Sequence[Row]
    ) -> None:
        """Raise if this key was used: _AnsweredBefore by this write, else IdempotencyConflict."""
        found = connection.execute(self.sql.receipt, {**key(owner), "key_": name}).first()
        if found is None:
            return
        if found.hash != _hash_of(rows):
            raise IdempotencyConflict(
                f"idempotency key {name!r} of user {owner[1]!r} was used for another write; use "
                "a new key for new content"
            )
        raise _AnsweredBefore(
            [Added(**{**one, "codes": tuple(one["codes"])}) for one in json.loads(found.answer)]
        )

    def _keep_answer(
        self,
        connection: Connection,
        name: str,
        rows: Sequence[Row],
        done: Sequence[Added],
        now: datetime,
    ) -> None:
        row = {
            "tenant": rows[0]["tenant"],
            "user": rows[0]["user"],
            "key": name,
            "hash": _hash_of(rows),
            "answer": json.dumps([one.to_json() for one in done]),
            "created": microseconds(now),
        }
        connection.execute(insert(receipts), row)

    def _delete(self, connection: Connection, rows: Sequence[Row], now: datetime) -> None:
        """Delete events of one user, with what the log knows of their contents."""
        if not rows:
            return
        owner = (str(rows[0]["tenant"]), str(rows[0]["user"]))
        seq = self._take(connection, owner, now, len(rows), -len(rows))
        keys = [{**key(owner), "id_": row["id"]} for row in rows]
        release(connection, self.sql, owner, [str(row["id"]) for row in rows], microseconds(now))
        connection.execute(self.sql.delete, keys)
        connection.execute(self.sql.scrub, keys)
        batch = Batch(microseconds(now), None)
        for number, row in enumerate(rows, start=seq):
            batch.log(row, "DELETE", number, None)
        batch.write(connection, self.sql)


class _AnsweredBefore(Exception):
    def __init__(self, answer: list[Added]) -> None:
        super().__init__()
        self.answer = answer


def _hash_of(rows: Sequence[Row]) -> str:
    text = json.dumps([(row["id"], row["hash"]) for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()[:32]

"""The store: the truth about what happened to whom, and what was made of it.

SQL through SQLAlchemy Core, the same over SQLite and PostgreSQL. Every call that writes
is one transaction and returns after its commit: what it reported is on the disk, and if it raised,
nothing of it is. Every function takes a scope; nothing crosses tenants or users.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from os import PathLike

from sqlalchemy import Connection, insert

from persona_agent.closing import Closing
from persona_agent.errors import (
    IdempotencyConflict,
    PersonaConflict,
    UnknownInteraction,
    UnknownUser,
)
from persona_agent.memory.database import Database
from persona_agent.memory.failpoint import failpoint
from persona_agent.memory.lineage import erase, forgotten_at, release
from persona_agent.memory.rows import (
    EPOCH,
    Added,
    Change,
    Owner,
    Row,
    StoredPersona,
    microseconds,
    owner_of,
    to_interaction,
    to_row,
)
from persona_agent.memory.schema import personas, receipts
from persona_agent.memory.screen import Screen, Screened, Trust, is_small_talk, screened
from persona_agent.memory.snapshot import Snapshot, key
from persona_agent.memory.writing import Batch, Statements, blobs_of, waiting_job
from persona_agent.types import FloatArray, Interaction, Json, Scope, check_id

__all__ = [
    "Added",
    "Change",
    "PersonaConflict",
    "Store",
    "StoredPersona",
    "UnknownInteraction",
]

BUSY_TIMEOUT = 5.0


class Store(Closing):
    """Interactions, vectors, personas and alignments under way, by tenant and user.

    Safe to use from many threads, and from many processes on one file or server.
    """

    def __init__(
        self, database: Database, *, screen: Screen = Screen(), outbox: Sequence[str] = ()
    ) -> None:
        """Use an open database; `screen` says what is stored, see Screen.

        `outbox` names the kinds of job that every change of a user's own words asks for, in the
        transaction that makes it; see `jobs`.
        """
        self.database = database
        self.sql = Statements(database.dialect)
        self._screen = screen
        self._outbox = tuple(outbox)

    @classmethod
    def open(
        cls,
        where: str | PathLike[str],
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        screen: Screen = Screen(),
        outbox: Sequence[str] = (),
    ) -> Store:
        """Return the store at a path, a SQLAlchemy URL, or ":memory:"; created if absent.

        A writer waits `busy_timeout` seconds for another process to end its write.
        Raises StoreError, with the way out, for a database that is not ours, newer than this
        package, damaged, locked or read-only, and for a folder that is not there.
        """
        database = Database.open(where, busy_timeout=busy_timeout)
        return cls(database, screen=screen, outbox=outbox)

    def close(self) -> None:
        """Close the database. A store in memory is gone then."""
        self.database.close()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give a reader that sees the database at one moment, for several reads that must agree.

        Write nothing while it is open: a store in memory has only one connection.
        """
        with self.database.read() as connection:
            yield Snapshot(connection)

    # interactions

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

        If its text changes, its vectors go, and `vector`, of shape (dim,), takes their place.
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
            changed = replace(to_interaction(stored), **given)  # type: ignore[arg-type]  # named above
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

    def get(self, scope: Scope, event_id: str) -> Interaction:
        """Return an interaction; raises UnknownInteraction if there is none of this id."""
        with self.snapshot() as snapshot:
            return to_interaction(snapshot.row(scope, event_id))

    def get_all(
        self, scope: Scope, *, limit: int | None = None, offset: int = 0, before: str | None = None
    ) -> list[Interaction]:
        """Return the interactions of a scope, oldest first; equal times in the order of adding.

        `before` is an id: only what is strictly earlier is returned. An unknown user has none.
        Raises UnknownInteraction if `before` is not an interaction of the user.
        """
        _check_count(limit, "limit")
        _check_count(offset, "offset")
        with self.snapshot() as snapshot:
            return snapshot.find(scope, before=before, limit=limit, offset=offset)

    def recent(self, scope: Scope, k: int, *, before: str | None = None) -> list[Interaction]:
        """Return the `k` latest interactions of a scope, oldest first; see `get_all`."""
        _check_count(k, "k")
        with self.snapshot() as snapshot:
            return snapshot.find(scope, before=before, limit=k, newest_first=True)[::-1]

    def labelled(self, scope: Scope) -> list[Interaction]:
        """Return the user's own turns with a known outcome, oldest first."""
        with self.snapshot() as snapshot:
            return snapshot.find(scope, labelled=True)

    def history(self, scope: Scope, event_id: str) -> list[Change]:
        """Return what was done to an interaction, oldest first; raises UnknownInteraction."""
        with self.snapshot() as snapshot:
            return snapshot.history(scope, event_id)

    def vectors(self, scope: Scope, embedder: str) -> tuple[list[str], FloatArray]:
        """Return the ids and vectors, of shape (n, dim), of all of a user's interactions.

        In time order. Interactions without a vector of this embedder are left out.
        """
        owner = owner_of(scope)
        with self.snapshot() as snapshot:
            order = {place.id: rank for rank, place in enumerate(snapshot.order(owner))}
            ids, array = snapshot.vectors(owner, embedder)
        by_rank = sorted(range(len(ids)), key=lambda i: order[ids[i]])
        return [ids[i] for i in by_rank], array[by_rank]

    def users(self, tenant: str = "default") -> list[str]:
        """Return the users of a tenant of whom anything is stored, sorted."""
        with self.snapshot() as snapshot:
            return snapshot.users(tenant)

    def count(self, scope: Scope) -> int:
        """Return how many interactions a scope has; 0 for an unknown user."""
        with self.snapshot() as snapshot:
            return snapshot.count(scope)

    # personas and alignments: text to the store

    def add_persona(
        self,
        scope: Scope,
        version: int,
        document: str,
        now: datetime,
        *,
        parent: int | None = None,
        origin: str = "",
        note: str = "",
        scores: str = "{}",
        epoch: int | None = None,
    ) -> StoredPersona:
        """Store persona `version` of a user, which must follow the latest; the first is 1.

        Raises PersonaConflict if the latest version is not `version` - 1: somebody else was
        faster; read again, decide again. Raises UnknownUser if the user was forgotten meanwhile:
        since `epoch`, or with nothing stored since.
        """
        at = microseconds(now)
        row = {
            "tenant": scope.tenant,
            "user": scope.user,
            "version": version,
            "parent": parent,
            "created": at,
            "origin": origin,
            "note": note,
            "document": document,
            "scores": scores,
        }
        with self.database.write() as connection:
            self._take_known(connection, owner_of(scope), now, epoch)
            head = Snapshot(connection).persona(scope)
            latest = head.version if head else 0
            if latest != version - 1:
                raise PersonaConflict(
                    f"persona version {version} of user {scope.user!r} cannot be stored: the "
                    f"latest is {latest}, so the next must be {latest + 1}; read the latest and "
                    "decide again"
                )
            connection.execute(insert(personas), row)
        return StoredPersona(version, parent, now, origin, note, document, scores)

    def persona(self, scope: Scope, version: int | None = None) -> StoredPersona | None:
        """Return a persona version, by default the latest; None if there is none."""
        with self.snapshot() as snapshot:
            return snapshot.persona(scope, version)

    def personas(self, scope: Scope) -> list[StoredPersona]:
        """Return all persona versions of a user, latest first."""
        with self.snapshot() as snapshot:
            return snapshot.personas(scope)

    def epoch(self, scope: Scope) -> int | None:
        """Return a number that changes when a user is forgotten; None if nothing is stored.

        Slow work takes it before it reads, and gives it back with what it writes.
        """
        with self.snapshot() as snapshot:
            head = snapshot.heads([owner_of(scope)]).get(owner_of(scope))
        return head.epoch if head else None

    def save_alignment(
        self, scope: Scope, name: str, state: str, now: datetime, *, epoch: int | None = None
    ) -> None:
        """Keep the state of an alignment under way, in place of an earlier one of this key.

        Raises UnknownUser if the user was forgotten meanwhile; see `add_persona`.
        """
        row = {
            "tenant": scope.tenant,
            "user": scope.user,
            "name": name,
            "state": state,
            "updated": microseconds(now),
        }
        with self.database.write() as connection:
            self._take_known(connection, owner_of(scope), now, epoch)
            connection.execute(self.sql.alignment, row)

    def load_alignment(self, scope: Scope, name: str) -> str | None:
        """Return the saved state of an alignment; None if there is none."""
        with self.snapshot() as snapshot:
            return snapshot.alignment(scope, name)

    def alignments(self, scope: Scope) -> list[str]:
        """Return the keys of a user's saved alignments, sorted."""
        with self.snapshot() as snapshot:
            return snapshot.alignments(scope)

    def delete_alignment(self, scope: Scope, name: str) -> bool:
        """Delete a saved alignment; return whether there was one."""
        with self.database.write() as connection:
            keys = {**key(owner_of(scope)), "name_": name}
            return bool(connection.execute(self.sql.drop_alignment, keys).rowcount)

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

    def lock(self, connection: Connection, owner: Owner) -> None:
        """Make other writers of this user wait, before anything is read to be changed.

        On SQLite a write transaction has the whole database to itself already.
        """
        if self.sql.lock is not None:
            connection.execute(self.sql.lock, key(owner))

    def _take(
        self, connection: Connection, owner: Owner, now: datetime, numbers: int, more: int
    ) -> int:
        """Lock a user for this transaction, and return the first of `numbers` to write under.

        `more` is what the count of events grows by. An unknown user becomes known.
        """
        row = {
            "tenant": owner[0],
            "user": owner[1],
            "next_seq": numbers,
            "event_count": more,
            "epoch": secrets.randbits(62),
            "created": microseconds(now),
            "fact_seq": 0,
        }
        last: int = self.sql.take.returned(connection, row)
        return last - numbers

    def _take_known(
        self, connection: Connection, owner: Owner, now: datetime, epoch: int | None
    ) -> None:
        """Lock a user for this transaction, unless what is to be written is of a forgotten one."""
        self.lock(connection, owner)
        head = Snapshot(connection).heads([owner]).get(owner)
        forgotten = head is None and forgotten_at(connection, owner) is not None
        if forgotten or (epoch is not None and (head is None or head.epoch != epoch)):
            raise UnknownUser(
                f"user {owner[1]!r} was forgotten; what was made of the earlier memories is not "
                "stored"
            )
        self._take(connection, owner, now, 0, 0)

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


def _check_count(value: int | None, what: str) -> None:
    if value is not None and value < 0:
        raise ValueError(f"{what} is {value}; it must be 0 or more")

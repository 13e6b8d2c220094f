"""Keys of the server: made, found by what a client sends, listed and revoked.

A key is `pa_`, an id that anybody may see, and a secret of 256 random bits. The store keeps the
SHA-256 of the secret, which is enough: nobody can try 2**256 secrets, so no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, cast, get_args

from sqlalchemy import RowMapping, insert, select, update

from persona_agent.memory.rows import microseconds, time_of
from persona_agent.memory.schema import api_keys
from persona_agent.memory.store import Store
from persona_agent.types import Record, check_id, check_text

KeyScope: TypeAlias = Literal["many-users", "operator"]

PREFIX = "pa_"
ID_CHARS = 12
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)


@dataclass(frozen=True, slots=True)
class ApiKey(Record):
    """A key as it may be shown: whose it is, what it may do; never its secret.

    A key bound to a `user` acts for that user alone. `many-users` lets it say for whom it acts;
    `operator` lets it see the tenant's users, jobs and cost.
    """

    id: str
    tenant: str
    user: str | None
    name: str
    scopes: tuple[KeyScope, ...]
    created: datetime
    revoked: datetime | None = None

    def __str__(self) -> str:
        whose = self.user if self.user is not None else "no user in particular"
        state = f", revoked {self.revoked:%Y-%m-%d}" if self.revoked else ""
        scopes = " ".join(self.scopes) or "no further scope"
        return f"{self.id}  {self.tenant}: {whose} ({scopes}){state}  {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class NewKey(Record):
    """A key that was just made, with the text that the client sends: it is shown once."""

    key: ApiKey
    token: str

    def __str__(self) -> str:
        return f"{self.token}\n{self.key}\nKeep it: it is not stored, and cannot be shown again."


class ApiKeys:
    """The keys of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self,
        now: datetime,
        *,
        tenant: str = "default",
        user: str | None = None,
        scopes: Collection[KeyScope] = (),
        name: str = "",
    ) -> NewKey:
        """Make a key and return it with its token, which nothing keeps.

        Raises ValueError for an unknown scope, a key that is bound to a user and may act for many,
        or one that may do nothing at all.
        """
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise ValueError(f"unknown scopes {', '.join(unknown)}; known: {', '.join(SCOPES)}")
        if user is not None and "many-users" in scopes:
            raise ValueError(f"a key of user {user!r} cannot act for many users; give one of both")
        if user is None and not scopes:
            raise ValueError(
                "this key could do nothing; bind it to a user, or give it the scope many-users "
                "or operator"
            )
        check_id(tenant, "tenant id")
        check_text(name, "the key's name")
        if user is not None:
            check_id(user, "user id")
        secret = secrets.token_urlsafe(32)
        wanted = tuple(one for one in SCOPES if one in scopes)
        key = ApiKey(secrets.token_hex(ID_CHARS // 2), tenant, user, name, wanted, now)
        row = {
            "tenant": tenant,
            "id": key.id,
            "user": user,
            "name": name,
            "hash": _hash(secret),
            "scopes": " ".join(wanted),
            "created": microseconds(now),
        }
        with self._store.database.write() as connection:
            connection.execute(insert(api_keys), row)
        return NewKey(key, f"{PREFIX}{key.id}_{secret}")

    def find(self, token: str) -> ApiKey | None:
        """Return the key whose token this is; None if there is none, or it was revoked."""
        parts = _parts(token)
        if parts is None:
            return None
        query = select(api_keys).where(api_keys.c.id == parts[0], api_keys.c.revoked.is_(None))
        with self._store.database.read() as connection:
            row = connection.execute(query).mappings().first()
        # The hash of an unknown key is compared, too, so that time does not tell which ids exist.
        known = "" if row is None else str(row["hash"])
        same = hmac.compare_digest(_hash(parts[1]), known)
        return _key(row) if row is not None and same else None

    def list(self, tenant: str | None = None) -> list[ApiKey]:
        """Return the keys of a tenant, or of all, oldest first; those revoked, too."""
        query = select(api_keys).order_by(api_keys.c.created, api_keys.c.id)
        if tenant is not None:
            query = query.where(api_keys.c.tenant == tenant)
        with self._store.database.read() as connection:
            return [_key(row) for row in connection.execute(query).mappings()]

    def revoke(self, key_id: str, now: datetime, *, tenant: str | None = None) -> bool:
        """Make a key useless; false if there is none of this id that is not revoked already."""
        change = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked.is_(None))
        if tenant is not None:
            change = change.where(api_keys.c.tenant == tenant)
        with self._store.database.write() as connection:
            done = connection.execute(change.values(revoked=microseconds(now)))
            return bool(done.rowcount)


def _parts(token: str) -> tuple[str, str] | None:
    """Return id and secret of what may be a key, None of what cannot be one."""
    key_id, found, secret = token.removeprefix(PREFIX).partition("_")
    is_key = token.startswith(PREFIX) and found and len(key_id) == ID_CHARS and len(secret) < 200
    return (key_id, secret) if is_key and token.isascii() and token.isprintable() else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: RowMapping) -> ApiKey:
    return ApiKey(
        row["id"],
        row["tenant"],
        row["user"],
        row["name"],
        cast("tuple[KeyScope, ...]", tuple(row["scopes"].split())),
        time_of(row["created"]),
        None if row["revoked"] is None else time_of(row["revoked"]),
    )

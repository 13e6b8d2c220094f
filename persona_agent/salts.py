"""Cache salts: whose prompts may share an engine's prefix cache.

An engine that reuses the prompts of others answers faster when it has seen a prefix before, and so
tells by its speed what others have sent (CVE-2025-46570). A salt keeps the caches apart: prompts of
different salts reuse nothing of each other. It is derived from the tenant (and user) by HMAC with a
secret key, so that nobody can guess another's, and it replaces whatever a request carried.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from persona_agent.types import Scope

CachePolicy: TypeAlias = Literal["tenant", "user", "off"]
POLICIES: tuple[str, ...] = get_args(CachePolicy)


@dataclass(frozen=True, slots=True)
class CacheSalts:
    """Who shares a prefix cache: the users of a tenant, nobody with anybody, or everybody ("off").

    Engines that serve several processes see the same salts only if these have the same `key`;
    without one, each process makes its own. Raises ValueError for an unknown policy, or a key
    that is too short to be a secret.

    >>> salts = CacheSalts("tenant", key=b"sixteen bytes or more")
    >>> salts.of(Scope("ann", "acme")) == salts.of(Scope("ben", "acme"))
    True
    >>> salts.of(Scope("ann", "acme")) == salts.of(Scope("ann", "other"))
    False
    """

    policy: CachePolicy = "tenant"
    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"cache policy is {self.policy!r}; it must be {', '.join(POLICIES)}")
        if not self.key:
            object.__setattr__(self, "key", secrets.token_bytes(32))
        elif len(self.key) < 16:
            raise ValueError(f"the cache key has {len(self.key)} bytes; give at least 16")

    def of(self, scope: Scope) -> str | None:
        """Return the salt of a user's prompts: 32 hexadecimal digits, None where everybody shares."""
        if self.policy == "off":
            return None
        owner = [scope.tenant] if self.policy == "tenant" else [scope.tenant, scope.user]
        # Ids cannot hold NUL, so that no two owners make the same text.
        digest = hmac.digest(self.key, "\0".join([self.policy, *owner]).encode(), hashlib.sha256)
        return digest.hex()[:32]

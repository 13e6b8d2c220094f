"""Letting in: keys from the store, the operator's own key, and tokens of your own sign-in."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt

from persona_agent.errors import InputError
from persona_agent.memory.api_keys import PREFIX, SCOPES, ApiKey, ApiKeys
from persona_agent.serve.config import Config, JwtPart
from persona_agent.serve.errors import ApiError
from persona_agent.serve.identity import Caller
from persona_agent.types import check_id

KEY_CACHE_S = 5.0  # how long a revoked key may still work
MOST_CACHED = 10_000
TOKEN_HEADER = "x-persona-token"
SHORTEST_SECRET = 32  # bytes, of HS256
SYMMETRIC = ("HS256", "HS384", "HS512")


class Guard:
    """Says who a request is from. Its methods may block: they read the store, or fetch keys."""

    def __init__(
        self, config: Config, keys: ApiKeys, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._keys = keys
        self._clock = clock
        self._admin = config.admin_key.get_secret_value()
        self._known: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()
        self._tokens = Tokens(config.jwt) if config.jwt.is_on else None

    def cached(self, headers: Mapping[str, str]) -> Caller | None:
        """Return who asks if that is known without blocking, else None."""
        if self._config.auth == "off":
            return Caller(self._config.tenant, None, frozenset(SCOPES), "nobody")
        sent = _sent(headers)
        if sent is None or TOKEN_HEADER in headers:
            return None
        if self._admin and _same(sent, self._admin):
            return Caller(self._config.tenant, None, frozenset(SCOPES), "admin")
        found = self._known.get(_digest(sent))
        if found is None or found[0] < self._clock():
            return None
        return _caller(found[1])

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return who asks; raises ApiError 401 saying what is missing, never what was sent."""
        known = self.cached(headers)
        if known is not None:
            return known
        sent = _sent(headers)
        if sent is None:
            raise refused("no key was sent; send Authorization: Bearer KEY, or X-API-Key")
        if self._tokens is not None and not sent.startswith(PREFIX) and sent.count(".") == 2:
            return self._spoken_for(sent, None)
        key = self._keys.find(sent)
        if key is None and self._admin and _same(sent, self._admin):
            caller = Caller(self._config.tenant, None, frozenset(SCOPES), "admin")
        elif key is None:
            raise refused("this key is not known, or was revoked")
        else:
            self._remember(sent, key)
            caller = _caller(key)
        token = headers.get(TOKEN_HEADER)
        return caller if token is None else self._spoken_for(token, caller)

    def _spoken_for(self, token: str, caller: Caller | None) -> Caller:
        """Return the caller that a token makes; with a key it must be of the key's tenant."""
        if self._tokens is None:
            raise refused("a token was sent, but this server verifies none; set jwt in its config")
        user, tenant = self._tokens.read(token)
        tenant = tenant or (self._config.tenant if caller is None else caller.tenant)
        if caller is None:
            return Caller(tenant, user, frozenset(), "token")
        if tenant != caller.tenant or caller.user not in (None, user):
            raise refused("key and token are not of the same tenant and user")
        return Caller(tenant, user, caller.scopes - {"many-users"}, caller.name)

    def _remember(self, sent: str, key: ApiKey) -> None:
        self._known[_digest(sent)] = (self._clock() + KEY_CACHE_S, key)
        while len(self._known) > MOST_CACHED:
            self._known.popitem(last=False)


class Tokens:
    """Verifies JSON web tokens, by a secret or by a key set."""

    def __init__(self, part: JwtPart) -> None:
        """Raises InputError for settings that cannot be right together, or a bad key set."""
        secret = part.secret.get_secret_value()
        sets = bool(part.jwks_file) + bool(part.jwks_url)
        if bool(secret) + sets > 1:
            raise InputError("jwt: give one of secret, jwks_file and jwks_url")
        if 0 < len(secret.encode()) < SHORTEST_SECRET:
            raise InputError(f"jwt: the secret is short; RFC 7518 wants {SHORTEST_SECRET} bytes")
        self._part = part
        self._secret = secret
        self._algorithms = list(part.algorithms) or (["HS256"] if secret else ["RS256"])
        # A public key taken as an HMAC secret would let anybody sign.
        wrong = [one for one in self._algorithms if (one in SYMMETRIC) != bool(secret)]
        if wrong or "none" in map(str.lower, self._algorithms):
            raise InputError(
                f"jwt: algorithms {', '.join(wrong or self._algorithms)} do not go with "
                f"{'a secret' if secret else 'a key set'}"
            )
        self._set = _key_set(Path(part.jwks_file)) if part.jwks_file else None
        self._client = _key_client(part.jwks_url) if part.jwks_url else None

    def read(self, token: str) -> tuple[str, str | None]:
        """Return the user and the tenant that a token names.

        Raises ApiError: 401, or 503 where the key set cannot be fetched.
        """
        part = self._part
        try:
            claims = jwt.decode(
                token,
                self._key(token),
                algorithms=self._algorithms,
                issuer=part.issuer or None,
                audience=part.audience or None,
                leeway=part.leeway_s,
                options={
                    "require": ["exp", part.user_claim],
                    "verify_aud": bool(part.audience),
                    "verify_iss": bool(part.issuer),
                    "verify_sub": False,
                },
            )
        except jwt.PyJWKClientConnectionError as error:
            raise ApiError(
                503,
                "the key set that tokens are verified by cannot be fetched; try again later",
                kind="server_error",
                code="key_set_unavailable",
            ) from error
        except jwt.PyJWTError as error:
            raise refused(f"the token is not valid: {error}") from error
        user, tenant = claims[part.user_claim], None
        if part.tenant_claim:
            tenant = claims.get(part.tenant_claim)
            if tenant is None:
                raise refused(f"the token has no claim {part.tenant_claim!r}")
        try:
            return check_id(user, "user id"), tenant and check_id(tenant, "tenant id")
        except (TypeError, ValueError) as error:
            raise refused(f"the token names nobody: {error}") from error

    def _key(self, token: str) -> Any:  # Any: what the library takes
        if self._secret:
            return self._secret
        if self._client is not None:
            return self._client.get_signing_key_from_jwt(token).key
        wanted = jwt.get_unverified_header(token).get("kid")
        keys = self._set.keys if self._set is not None else []
        found = [one for one in keys if one.key_id == wanted] or (keys if len(keys) == 1 else [])
        if not found:
            raise jwt.InvalidTokenError("its key is not in the key set")
        return found[0].key


def refused(message: str) -> ApiError:
    """Return the error for who is not let in."""
    return ApiError(
        401,
        message,
        kind="authentication_error",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _sent(headers: Mapping[str, str]) -> str | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key") or None


def _caller(key: ApiKey) -> Caller:
    return Caller(key.tenant, key.user, frozenset(key.scopes), key.id)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _key_client(url: str) -> jwt.PyJWKClient:
    try:
        return jwt.PyJWKClient(url, timeout=10)
    except jwt.PyJWTError as error:
        raise InputError(f"jwt.jwks_url is {url!r}; it must begin with http or https") from error


def _key_set(path: Path) -> jwt.PyJWKSet:
    try:
        return jwt.PyJWKSet.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, jwt.PyJWTError) as error:
        raise InputError(f"{path} is not a JSON web key set: {error}") from error

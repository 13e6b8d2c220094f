"""Letting in: tokens of one's own sign-in, keys that are cached and revoked, a server without keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from persona_agent.errors import InputError
from persona_agent.memory.api_keys import ApiKeys
from persona_agent.memory.store import Store
from persona_agent.serve.auth import KEY_CACHE_S, Guard
from persona_agent.serve.config import Config
from persona_agent.serve.errors import ApiError
from persona_agent.serve.service import utc_now

SECRET = "a secret of more than sixty-four characters, as HS512 wants it to be, too"


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "ann", "exp": time.time() + 600, **more}


def guard(store: Store, **part: Any) -> Guard:
    return Guard(Config.model_validate({"jwt": part}), ApiKeys(store))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def store() -> Any:
    with Store.open(":memory:") as opened:
        yield opened


def test_a_signed_token_names_user_and_tenant(store: Store) -> None:
    doors = guard(store, secret=SECRET, tenant_claim="org", audience="us", issuer="them")
    token = jwt.encode(claims(org="acme", aud="us", iss="them"), SECRET, "HS256")
    caller = doors.caller(bearer(token))
    assert (caller.tenant, caller.user, caller.scopes) == ("acme", "ann", frozenset())


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode(claims(), SECRET[::-1], "HS256"),
        jwt.encode(claims(exp=time.time() - 3600), SECRET, "HS256"),
        jwt.encode({"sub": "ann"}, SECRET, "HS256"),
        jwt.encode(claims(sub=""), SECRET, "HS256"),
        jwt.encode({"exp": time.time() + 600}, SECRET, "HS256"),
        jwt.encode(claims(), SECRET, "HS512"),
        jwt.encode(claims(), None, "none"),
        "a.b.c",
    ],
)
def test_a_token_that_is_not_right_lets_nobody_in(store: Store, token: str) -> None:
    with pytest.raises(ApiError) as told:
        guard(store, secret=SECRET).caller(bearer(token))
    assert told.value.status == 401


def test_a_key_set_verifies_and_its_public_key_signs_nothing(store: Store, tmp_path: Path) -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}))
    doors = guard(store, jwks_file=str(file))
    good = jwt.encode(claims(), private, "RS256", headers={"kid": "k1"})
    assert doors.caller(bearer(good)).user == "ann"
    forged = jwt.encode(claims(), public["n"], "HS256", headers={"kid": "k1"})
    strange = jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256")
    for wrong in (forged, strange):
        with pytest.raises(ApiError):
            doors.caller(bearer(wrong))
    with pytest.raises(InputError, match="do not go with a key set"):
        guard(store, jwks_file=str(file), algorithms=["HS256"])


class Issuer(BaseHTTPRequestHandler):
    """The endpoint of a sign-in: it gives the keys of `server.keys`, or fails without."""

    server: Any

    def do_GET(self) -> None:
        keys = self.server.keys
        self.send_response(200 if keys else 500)
        self.end_headers()
        self.wfile.write(json.dumps({"keys": keys}).encode())

    def log_message(self, *args: Any) -> None:
        return  # tests print nothing


@pytest.fixture
def issuer() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Issuer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def key_pair(name: str) -> tuple[rsa.RSAPrivateKey, dict[str, Any]]:
    private = rsa.generate_private_key(65537, 2048)
    public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
    return private, {**public, "kid": name, "use": "sig", "alg": "RS256"}


def signed(private: rsa.RSAPrivateKey, name: str) -> dict[str, str]:
    return bearer(jwt.encode(claims(), private, "RS256", headers={"kid": name}))


def test_keys_are_fetched_from_their_address_and_again_when_one_is_unknown(
    store: Store, issuer: Any
) -> None:
    old, public = key_pair("old")
    issuer.keys = [public]
    doors = guard(store, jwks_url=f"http://127.0.0.1:{issuer.server_port}/jwks.json")
    assert doors.caller(signed(old, "old")).user == "ann"
    new, public = key_pair("new")
    with pytest.raises(ApiError) as told:
        doors.caller(signed(new, "new"))
    assert told.value.status == 401
    issuer.keys = [public]
    doors._tokens._client.cooldown_duration = 0  # type: ignore[union-attr]  # 30 s in earnest
    assert doors.caller(signed(new, "new")).user == "ann"
    with pytest.raises(ApiError) as told:
        doors.caller(signed(old, "new"))  # the other key's name does not help
    assert told.value.status == 401


def test_keys_that_cannot_be_fetched_are_no_fault_of_the_tokens(store: Store, issuer: Any) -> None:
    issuer.keys = []
    doors = guard(store, jwks_url=f"http://127.0.0.1:{issuer.server_port}/jwks.json")
    private, public = key_pair("k1")
    with pytest.raises(ApiError) as told:
        doors.caller(signed(private, "k1"))
    assert (told.value.status, told.value.code) == (503, "key_set_unavailable")
    issuer.keys = [public]
    assert doors.caller(signed(private, "k1")).user == "ann"
    with pytest.raises(InputError, match="must begin with http"):
        guard(store, jwks_url="file:///etc/passwd")


def test_a_token_beside_a_key_narrows_the_key_to_its_user(store: Store) -> None:
    doors = guard(store, secret=SECRET)
    keys = ApiKeys(store)
    many = keys.create(utc_now(), scopes=["many-users"]).token
    bound = keys.create(utc_now(), user="bob").token
    token = jwt.encode(claims(), SECRET, "HS256")
    caller = doors.caller({**bearer(many), "x-persona-token": token})
    assert (caller.user, caller.scopes) == ("ann", frozenset())
    with pytest.raises(ApiError):
        doors.caller({**bearer(bound), "x-persona-token": token})


def test_a_revoked_key_works_for_seconds_at_most(store: Store) -> None:
    keys, now = ApiKeys(store), [0.0]
    doors = Guard(Config(), keys, clock=lambda: now[0])
    made = keys.create(utc_now(), user="ann")
    assert doors.caller({"x-api-key": made.token}).user == "ann"
    keys.revoke(made.key.id, utc_now())
    assert doors.cached({"x-api-key": made.token}) is not None
    now[0] = KEY_CACHE_S + 1
    with pytest.raises(ApiError):
        doors.caller({"x-api-key": made.token})


def test_without_keys_this_machine_alone_is_served(serve: Callable[..., Any]) -> None:
    server = serve(auth="off")
    with server.client("") as web:
        told = web.post("/v1/memories", json={"user_id": "ann", "memories": [{"query": "tea"}]})
        assert told.status_code == 200
    with pytest.raises(ValueError, match="others can reach"):
        Config(auth="off", host="0.0.0.0")

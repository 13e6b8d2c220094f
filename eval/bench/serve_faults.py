"""What leaks to others or is lost when the server is attacked or killed: counted, all to be 0.

`leaks` are answers that hold what is another user's, by wrong keys, foreign ids, forged headers
and strange filters. `acknowledged_lost` are writes and turns that were acknowledged before
`kill -9` and are not there after.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from persona_agent.eval.bench.serve_process import (
    ADMIN,
    Client,
    Told,
    figures,
    server,
    stub_upstream,
)
from persona_agent.memory.api_keys import ApiKeys
from persona_agent.memory.store import Store
from persona_agent.types import Scope

USERS = ("ann", "o'neil", "a/b", "%", "_", "User", "user", "😀", "; DROP TABLE events--", "a b")
TENANTS = ("acme", "other")
HEADERS = ("x-persona-user", "x-litellm-end-user-id", "x-openwebui-user-id", "x-persona-agent")
ODD: tuple[Any, ...] = (
    None, "", [], {}, 0, -1, True, 1e308, "\x00", "%", "' OR 1=1 --", ["*"], {"$ne": None}, "ann",
    ["ann"], "../acme/ann", "x" * 600, [[]], {"user_id": "ann"},
)  # fmt: skip


@dataclass(slots=True)
class Counts:
    """What was found so far."""

    operations: int = 0
    leaks: int = 0
    server_errors: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    def note(self, told: Told, own: str) -> None:
        """Note an answer to the caller whose memories hold the word `own`."""
        self.operations += 1
        self.statuses[told.status] = self.statuses.get(told.status, 0) + 1
        self.server_errors += told.status >= 500
        text = told.body.decode("utf-8", "replace") + json.dumps(dict(told.headers))
        self.leaks += sum(f"canary-{word}" in text for word in _words() if word != own)


def measure(*, operations: int, kills: int) -> dict[str, float | None]:
    """Return the counts, and how long a killed server takes to serve again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-faults-")))
        upstream = stack.enter_context(stub_upstream())
        database = str(folder / "isolation.db")
        keys = _people(database)
        with server(database, upstream, {"embedder": "hash"}) as (url, _):
            counts = asyncio.run(_attack(url, keys, operations))
        killed = _kill(str(folder / "killed.db"), upstream, kills)
    return {
        "operations": float(counts.operations),
        "leaks": float(counts.leaks),
        "server_errors": float(counts.server_errors),
        **{f"status_{code}": float(n) for code, n in sorted(counts.statuses.items())},
        **killed,
    }


def _words() -> list[str]:
    return [f"{tenant}-{place}" for tenant in TENANTS for place in range(len(USERS))]


def _people(database: str) -> dict[str, tuple[str, str]]:
    """Make a key for every user of every tenant; return user and token by the user's word."""
    with Store.open(database) as store:
        keys = ApiKeys(store)
        return {
            f"{tenant}-{place}": (
                user,
                keys.create(datetime.now(UTC), tenant=tenant, user=user).token,
            )
            for tenant in TENANTS
            for place, user in enumerate(USERS)
        }


async def _attack(url: str, keys: dict[str, tuple[str, str]], operations: int) -> Counts:
    counts = Counts()
    first = Client(url)
    for word, (_, token) in keys.items():
        memories = [{"query": f"canary-{word} number {i}", "id": f"m{i}"} for i in range(5)]
        told = await first.send(
            "POST", "/v1/memories", {"memories": memories}, {"x-api-key": token}
        )
        assert told.status == 200, told.body
    first.close()
    words = list(keys)

    async def attacker(number: int) -> None:
        rng = random.Random(number)
        client = Client(url)
        for _ in range(operations // 8):
            word = rng.choice(words)
            headers = {"x-api-key": keys[word][1]}
            if rng.random() < 0.1:
                headers["x-api-key"] = rng.choice(["pa_0_1", keys[word][1][:-1], "admin", "x.y.z"])
            for name in HEADERS:
                if rng.random() < 0.3:
                    headers[name] = quote(rng.choice(USERS))
            method, path, body = _request(rng, keys[rng.choice(words)][0])
            counts.note(await client.send(method, path, body, headers), word)
        client.close()

    await asyncio.gather(*(attacker(number) for number in range(8)))
    return counts


def _request(rng: random.Random, victim: str) -> tuple[str, str, object]:
    """Return a request that tries to get at what is a victim's, or is odd in some other way."""
    user = quote(victim, safe="")
    odd = rng.choice(ODD)
    memory = f"m{rng.randrange(7)}"
    named = urlencode({"user_id": victim, "cursor": str(odd)} if rng.random() < 0.3 else {
        "user_id": victim})  # fmt: skip
    search: dict[str, Any] = {"query": "canary number", "user_id": victim}
    search |= {rng.choice(["filters", "top_k", "kinds", "mode", "user_id", "x"]): odd}
    filters: dict[str, Any] = {"query": "canary", "filters": {rng.choice(
        ["ids", "roles", "agent_id", "run_id", "since", "user_id", "tenant"]): odd}}  # fmt: skip
    chat = {"model": "m", "user": victim, "messages": [{"role": "user", "content": "canary"}]}
    choices: list[tuple[str, str, object]] = [
        ("GET", f"/v1/memories?{named}", None),
        ("GET", "/v1/memories", None),
        ("GET", f"/v1/memories/{memory}?{named}", None),
        ("GET", f"/v1/memories/{memory}/history?{named}", None),
        ("POST", "/v1/memories/search", search),
        ("POST", "/v1/memories/search", filters),
        ("GET", f"/v1/users/{user}/context?query=canary", None),
        ("GET", f"/v1/users/{user}/export", None),
        ("GET", f"/v1/users/{user}/persona", None),
        ("GET", f"/v1/users/{user}/facts", None),
        ("POST", "/v1/chat/completions", {**chat, "metadata": odd}),
        ("POST", "/v1/feedback", {"id": memory, "outcome": "x", "user_id": odd}),
        ("GET", "/v1/operator/users", None),
        ("GET", f"/v1/operations/{quote(str(odd), safe='')}", None),
    ]
    return rng.choice(choices)


def _kill(database: str, upstream: str, kills: int) -> dict[str, float]:
    """Kill a server under load so many times; count what was acknowledged and is gone."""
    acknowledged: dict[str, set[str]] = {}
    again: list[float] = []
    rng = random.Random(0)
    for number in range(kills):
        begun = time.perf_counter()
        with server(database, upstream, {"embedder": "hash"}) as (url, process):
            again.append(time.perf_counter() - begun)

            async def load(url: str, number: int, seconds: float, kill: Any) -> None:
                tasks = [
                    asyncio.create_task(_write(url, f"w{number}-{i}", acknowledged))
                    for i in range(8)
                ]
                await asyncio.sleep(seconds)
                kill()
                await asyncio.gather(*tasks)

            stop = process.send_signal
            asyncio.run(load(url, number, 1.0 + 2 * rng.random(), lambda: stop(signal.SIGKILL)))  # noqa: B023
    with server(database, upstream, {"embedder": "hash"}) as (url, _):
        while figures(url)["persona_agent_journal_waiting"]:
            time.sleep(0.1)  # it stores what was left
    lost = 0
    with Store.open(database) as store:
        for user, ids in acknowledged.items():
            lost += len(ids - {one.id for one in store.get_all(Scope(user))})
    total = sum(map(len, acknowledged.values()))
    return {
        "kills": float(kills),
        "acknowledged": float(total),
        "acknowledged_lost": float(lost),
        "serves_again_s": round(sum(again) / max(1, len(again)), 2),
    }


async def _write(url: str, user: str, acknowledged: dict[str, set[str]]) -> None:
    """Talk and add until the server is gone; note what it acknowledged."""
    mine = acknowledged.setdefault(user, set())
    client = Client(url, {"authorization": f"Bearer {ADMIN}", "x-persona-user": user})
    number = 0
    try:
        while True:
            number += 1
            text = f"{user} says {number}"
            if number % 2:
                body: dict[str, Any] = {"memories": [{"query": text}]}
                told = await client.send("POST", "/v1/memories", body)
                if told.status == 200:
                    mine.update(one["id"] for one in told.json()["results"])
            else:
                body = {"model": "m", "messages": [{"role": "user", "content": text}]}
                body["stream"] = number % 4 == 0
                told = await client.send("POST", "/v1/chat/completions", body)
                if told.status == 200:
                    mine.add(told.headers["x-persona-turn"])
    except ConnectionError:
        client.close()

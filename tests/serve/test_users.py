"""A user by HTTP: context, facts, export; forgotten with a receipt, to the last byte."""

from __future__ import annotations

import json
from pathlib import Path

from persona_agent.memory.verify import found_in
from persona_agent.serve.journal import REJECTED
from persona_agent.serve.segments import Segments
from persona_agent.types import Scope
from tests.serve.conftest import Running
from tests.serve.test_journal import entry

CANARY = "canary 77aa1"


def test_a_context_is_for_prompts_of_ones_own(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        assert web.get("/v1/users/ann/context", params={"query": "tea"}).status_code == 404
        web.post("/v1/memories", json={"memories": [{"query": "I drink tea", "id": "m1"}]})
        web.put("/v1/users/ann/persona", json={"lines": ["Is brief"]})
        told = web.get("/v1/users/ann/context", params={"query": "tea"}).json()
    assert told["memories"] == ["m1"]
    assert "- Is brief" in told["text"]
    assert told["text"] in told["instructions"]


def test_who_the_caller_is(server: Running) -> None:
    with server.client(server.key(user="ann", tenant="acme")) as web:
        told = web.get("/v1/me").json()
    assert (told["tenant"], told["user_id"], told["scopes"]) == ("acme", "ann", [])


def test_how_much_is_known_is_told_in_numbers(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        nothing = {"user_id": "ann", "memories": 0, "facts": 0, "persona_version": 0}
        assert web.get("/v1/users/ann").json() == nothing
        web.post("/v1/memories", json={"memories": [{"query": "I drink tea"}]})
        web.put("/v1/users/ann/persona", json={"lines": ["Is brief"]})
        assert web.get("/v1/users/ann").json() == nothing | {"memories": 1, "persona_version": 2}
        assert web.get("/v1/users/bob").json()["error"]["code"] == "user_not_found"


def test_an_export_can_be_imported(server: Running) -> None:
    with server.client(server.key(user="ann")) as web:
        assert web.get("/v1/users/ann/export").status_code == 404
        web.post("/v1/memories", json={"memories": [{"query": "I drink tea"}]})
        assert web.get("/v1/users/ann/facts").json() == {"results": []}
        told = web.get("/v1/users/ann/export")
    lines = [json.loads(line) for line in told.text.splitlines()]
    assert [one["type"] for one in lines] == ["head", "event"]
    assert told.headers["content-type"].startswith("application/x-ndjson")


def test_forgetting_tells_first_then_leaves_no_byte(server: Running, tmp_path: Path) -> None:
    chat = {"model": "stub", "messages": [{"role": "user", "content": f"I say {CANARY}"}]}
    with server.client(server.key(user="ann")) as web:
        assert web.post("/v1/chat/completions", json=chat).status_code == 200
        web.post("/v1/memories", json={"memories": [{"query": CANARY, "id": CANARY}]})
        web.put("/v1/users/ann/persona", json={"lines": [CANARY]})
        web.post("/v1/users/ann/persona/align")
        dry = web.delete("/v1/users/ann", params={"dry_run": True}).json()
        assert (dry["dry_run"], dry["rows"]["events"]) == (True, 2)
        assert web.get(f"/v1/memories/{CANARY}").status_code == 200
        receipt = web.delete("/v1/users/ann").json()
    assert receipt["rows"]["operations"] == 1
    assert receipt["rows"] == {**dry["rows"]}
    assert server.service.store.count(Scope("ann")) == 0
    files = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert len(files) >= 2
    assert list(found_in(files, [CANARY])) == []


def test_a_receipt_tells_of_turns_that_another_worker_has_not_stored_yet(server: Running) -> None:
    folder = server.service.journal.folder
    mine = [entry(1), entry(2), entry(3, "bob"), {**entry(4), "tenant": "acme"}]
    (folder / REJECTED).write_text(json.dumps(dict(entry(5))) + "\n")
    with Segments.begin(folder) as other, server.client() as web:
        other.append(mine)
        told = web.delete("/v1/users/ann", params={"dry_run": True}).json()["beyond_reach"]
        assert [one for one in told if "journal" in one] == [
            "turns that wait in the journal, to be dropped when it is their turn: 2",
            f"turns that no store could hold, in {REJECTED} beside the journal: 1",
        ]
        told = web.delete("/v1/users/carl").json()["beyond_reach"]
        assert not any("journal" in one for one in told)

"""The gate before the store: secrets do not reach the disk, junk is told, keys are kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.errors import IdempotencyConflict
from persona_agent.memory.rows import Added
from persona_agent.memory.screen import Screen, is_card, redacted, screened
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = Scope("ann")

# In halves, so that no scanner takes this file for a leak.
SECRETS = {
    "api_key": "sk-" + "proj-abcdefghij0123456789ABCD",
    "aws_key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github_token": "ghp_" + "a1B2" * 9,
    "gitlab_token": "glpat-" + "a1B2" * 5,
    "google_key": "AIza" + "Sy_1-" * 7,
    "hugging_face_token": "hf_" + "aB3" * 11,
    "slack_token": "xoxb-" + "123456789012-abcdef",
    "stripe_key": "sk_live_" + "a1B2" * 5,
    "json_web_token": "eyJhbGciOiJI.eyJzdWIiOiIx" + ".SflKxwRJSMeK",
    "card_number": "4111 1111 " + "1111 1111",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----",
    "password": "password: hunter22",
}


def event(query: str, number: int = 0, **fields: Any) -> Interaction:  # Any: fields by name
    return Interaction(ANN, NOW + timedelta(number), query, id=f"e{number}", **fields)


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items(), ids=list(SECRETS))
def test_a_secret_never_reaches_the_disk(tmp_path: Path, kind: str, secret: str) -> None:
    mark = secret.replace("\n", " ").split()[-1][-8:]
    told = event(
        f"here: {secret} ok?",
        response=secret,
        outcome=f"x {secret}",
        options=("a", secret),
        metadata={"deep": [{"er": secret}]},
    )
    with Store.open(tmp_path / "store.db") as store:
        (added,) = store.add([told], np.ones((1, 4), np.float32), "h", now=NOW)
        assert (added.event, added.codes) == ("ADD", (f"secret:{kind}",))
        assert kind in added.reason
        kept = store.get(ANN, "e0")
        assert kept.query == f"here: [removed: {kind}] ok?"
        assert store.vectors(ANN, "h")[0] == []  # it was made of the secret, too
        assert store.add([told], now=NOW)[0].codes[0] == "duplicate"
        store.update(ANN, "e0", outcome=f"again {secret}", now=NOW)
        for file in tmp_path.iterdir():
            assert mark.encode() not in file.read_bytes()


def test_a_password_in_a_url_is_cut_and_the_url_stays() -> None:
    text, kinds = redacted(
        "see postgresql://ann:s3cret@db.example/x and https://example.com:8080/a"
    )
    assert (
        text
        == "see postgresql://[removed: url_password]@db.example/x and https://example.com:8080/a"
    )
    assert kinds == ("url_password",)


@pytest.mark.parametrize(
    "text",
    [
        "my password is important to me",
        "the token: economy of scale",
        "order 4111 1111 1111 1112 is late",
        "ISBN 978-3-16-148410-0, at 1700000000000",
        "call +44 20 7946 0958",
        "task-force-and-some-more-words-with-dashes",
        "a" * 5000,
        "4" * 5000,
        "Forrest Gump (1994) | 4.5 of 5",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == (text, ())


@given(st.text(max_size=200))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once, _ = redacted(text + " " + SECRETS["api_key"])
    assert redacted(once) == (once, ())


def test_cards_pass_luhn() -> None:
    assert is_card("5500-0000-0000-0004")
    assert not is_card("5500-0000-0000-0005")


@pytest.mark.parametrize(
    ("query", "code"),
    [("  \n ", "empty"), ("x" * 51, "too_long"), ("Thanks!", "boilerplate"), ("ok", "boilerplate")],
)
def test_junk_is_skipped_with_its_code_and_leaves_no_trace(query: str, code: str) -> None:
    rules = Screen(max_chars=50, boilerplate=True)
    with Store.open(":memory:", screen=rules) as store:
        (added,) = store.add([event(query)], now=NOW)
        assert (added.event, added.codes) == ("SKIP", (code,))
        assert added.reason
        assert store.users() == []
        both = store.add([event(query), event("a real sentence", 1)], now=NOW)
        assert [one.event for one in both] == ["SKIP", "ADD"]
        assert store.count(ANN) == len(store.get_all(ANN)) == 1


def test_small_talk_is_kept_unless_asked_and_an_outcome_is_never_small_talk() -> None:
    rules = Screen(boilerplate=True)
    assert screened(event("ok"), Screen()).refusal is None
    assert screened(event("ok", outcome="5"), rules).refusal is None
    assert screened(event("ok", item="film"), rules).refusal is None


def test_repeated_words_are_skipped_only_when_asked(store: Store) -> None:
    store.add([event("I like tea"), event("I like tea", 1)], now=NOW)
    assert store.count(ANN) == 2
    strict = Store(store.database, screen=Screen(duplicates=True))
    (added,) = strict.add([event("I like tea", 2)], now=NOW)
    assert (added.event, added.codes) == ("SKIP", ("repeated",))
    assert strict.add([event("I like tea", 3, outcome="5")], now=NOW)[0].event == "ADD"
    assert strict.add([replace(event("I like tea", 4), scope=Scope("bob"))], now=NOW)[0].event == (
        "ADD"
    )


def test_secrets_can_be_refused_or_let_in() -> None:
    told = event(SECRETS["api_key"])
    assert "api_key" in str(screened(told, Screen(secrets="refuse")).refusal)
    assert screened(told, Screen(secrets="off")).interaction is told


def test_the_same_key_gives_the_same_answer_and_writes_nothing(store: Store) -> None:
    first = store.add([event("a")], now=NOW, idempotency_key="k")
    store.delete(ANN, "e0", NOW)
    with store.snapshot() as snapshot:
        before = snapshot.heads([("default", "ann")])
    assert store.add([event("a")], now=NOW, idempotency_key="k") == first == [Added("e0", "ADD")]
    with store.snapshot() as snapshot:
        assert snapshot.heads([("default", "ann")]) == before
    assert store.count(ANN) == 0


def test_other_content_under_the_same_key_is_refused(store: Store) -> None:
    store.add([event("a")], now=NOW, idempotency_key="k")
    for other in ([event("b")], [event("a"), event("c", 1)]):
        with pytest.raises(IdempotencyConflict, match=r"'k'.*another write"):
            store.add(other, now=NOW, idempotency_key="k")
    assert store.count(ANN) == 1
    bob = replace(event("b"), scope=Scope("bob"))
    assert store.add([bob], now=NOW, idempotency_key="k")[0].event == "ADD"
    with pytest.raises(ValueError, match="2 users"):
        store.add([event("a"), bob], now=NOW, idempotency_key="k2")


def test_many_at_once_with_one_key_write_once(store: Store) -> None:
    answers: list[list[Added]] = []

    def work() -> None:
        one = Interaction(ANN, NOW, "same", id="same")
        answers.append(store.add([one], now=NOW, idempotency_key="k"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[Added("same", "ADD")]] * 8
    assert store.count(ANN) == 1


def test_who_vouches_is_kept(store: Store) -> None:
    said = [
        Interaction(ANN, NOW, role, role=role, id=role)  # type: ignore[arg-type]  # a role
        for role in ("user", "assistant", "tool", "system")
    ]
    store.add(said, now=NOW)
    store.add([event("imported")], now=NOW, trust="import")
    with store.snapshot() as snapshot:
        rows = snapshot.rows(("default", "ann"), [*(one.id for one in said), "e0"])
    assert {name: row["trust"] for name, row in rows.items()} == {
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "system": "tool",
        "e0": "import",
    }

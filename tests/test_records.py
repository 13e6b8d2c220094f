"""The border: what is read, what is refused, and that a refusal names its place."""

from __future__ import annotations

import csv
import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.errors import InputError
from persona_agent.records import Batch, Format, chat, interaction, parse_time, read_lines
from persona_agent.types import Interaction, Scope

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALICE = Scope("alice")
ODD_IDS = [
    "o'brien",
    'say "hi"',
    "a/b\\c",
    "../../etc",
    "龍 🐉",
    "tab\there",
    "esc\x1b[31m",
    "\u202e",
    " ",
]

# text a database can hold: no NUL, no lone surrogates
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
some_text = texts.filter(bool)
scalars = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | texts
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
interactions = st.builds(
    Interaction,
    st.builds(Scope, some_text, agent=st.none() | some_text, run=st.none() | some_text),
    times,
    texts,
    outcome=some_text,
    response=st.none() | some_text,
    role=st.sampled_from(["user", "assistant", "tool"]),
    item=st.none() | some_text,
    options=st.lists(some_text.filter(lambda one: "|" not in one), max_size=3, unique=True),
    metadata=st.dictionaries(some_text, scalars | st.lists(scalars, max_size=3), max_size=3),
    id=some_text,
)


def read(text: str, form: Format = "jsonl", scope: Scope | None = ALICE) -> Batch:
    return read_lines(text, form, scope=scope, now=NOW)


def jsonl(*rows: Any) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def fields(one: Interaction) -> dict[str, Any]:
    return {
        "user": one.scope.user,
        "agent": one.scope.agent,
        "run": one.scope.run,
        "id": one.id,
        "when": one.when.isoformat(),
        "query": one.query,
        "response": one.response,
        "outcome": one.outcome,
        "role": one.role,
        "item": one.item,
        "options": list(one.options),
        "metadata": dict(one.metadata),
    }


@given(st.lists(interactions, max_size=4))
def test_what_is_written_as_jsonl_is_read_back(some: list[Interaction]) -> None:
    batch = read(jsonl(*map(fields, some)), scope=None)
    assert batch.unread == ()
    assert list(batch.interactions) == some


@given(
    st.lists(interactions.filter(lambda one: not one.outcome.endswith("0")), min_size=1, max_size=4)
)
def test_what_is_written_as_csv_is_read_back(some: list[Interaction]) -> None:
    rows = [fields(one) for one in some]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(rows[0])
    for row in rows:
        row["options"] = "|".join(row["options"])
        row["metadata"] = json.dumps(row["metadata"])
        writer.writerow("" if value is None else value for value in row.values())
    batch = read(out.getvalue(), "csv", scope=None)
    assert batch.unread == ()
    assert list(batch.interactions) == some


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@given(text=st.text(max_size=80))
def test_any_text_is_read_or_refused_line_by_line(form: Format, text: str) -> None:
    batch = read(text, form)
    lines = text.count("\n") + text.count("\r") + 1
    assert all(1 <= one.line <= lines for one in batch.unread)
    assert all(one.reason for one in batch.unread)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"query": "q", "colour": "red", "size": 1}, "unknown keys colour, size; known keys: user"),
        ({"query": "q", "when": "yesterday"}, "'yesterday' is not a time; write ISO 8601"),
        ({"query": "q", "when": 1_790_000_000_000}, "too large for seconds since 1970"),
        ({"query": "q", "when": -99_000_000_000}, "before the year 1"),
        ({"query": "q", "when": True}, "not a time"),
        ({"query": "q", "when": []}, "not a time"),
        ({"query": "q", "when": "nan"}, "too large"),
        ({"query": "q", "when": "0001-01-01T00:00:00+14:00"}, "is not a time"),
        ({"query": "q", "when": "2026-02-30"}, "not a time"),
        ({"query": ["q"]}, "is not text or a number"),
        ({"query": "q", "outcome": True}, "True is not text or a number"),
        ({"query": "q", "outcome": {"stars": 4}}, "is not text or a number"),
        ({"query": "q", "role": "boss"}, "role is 'boss'; it must be one of user"),
        ({"query": "q", "role": ["user"]}, "role is"),
        ({"query": "q", "options": 4}, "options are 4; give a list"),
        ({"query": "q", "options": ["a", ""]}, "they must differ, and none may be empty"),
        ({"query": "q", "options": "a|b|a"}, "they must differ"),
        ({"query": "q", "metadata": [1]}, "metadata is"),
        ({"query": "q", "id": "a\x00b"}, "contains NUL"),
        ({"query": "q\x00"}, "query contains NUL at position 1"),
        ({"query": "q", "user": "\ud800"}, "not valid Unicode"),
        ({"query": "q", "id": "x" * 513}, "at most 512"),
        ({"query": "q", "user": "u", "user_id": "v"}, "user_id and user are the same key"),
        ({}, "an interaction needs a query, a response or an outcome"),
        ({"query": ""}, "an interaction needs a query"),
    ],
)
def test_a_wrong_field_is_refused_with_the_line_and_the_reason(
    row: dict[str, Any], says: str
) -> None:
    batch = read(jsonl({"query": "good"}, row, {"query": "fine"}))
    assert [one.query for one in batch.interactions] == ["good", "fine"]
    assert [one.line for one in batch.unread] == [2]
    assert says in batch.unread[0].reason


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"query": "q"', "at column 14"),
        ("[1, 2]", "list where a JSON object is due"),
        ("null", "NoneType where a JSON object is due"),
        ('{"query": "q", "metadata": {"x": NaN}}', "NaN is not a number in JSON"),
        ('{"query": "q", "outcome": -Infinity}', "-Infinity is not a number"),
        ('{"query": "q", "outcome": ' + "9" * 5000 + "}", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("query,outcome", "not JSON"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused_and_the_others_kept(line: str, says: str) -> None:
    batch = read(f'{{"query": "good"}}\n\n{line}\n{{"query": "fine"}}\n')
    assert [one.query for one in batch.interactions] == ["good", "fine"]
    assert [one.line for one in batch.unread] == [3]
    assert says in batch.unread[0].reason


def test_a_line_without_a_user_needs_one_named_for_all() -> None:
    batch = read(jsonl({"query": "q"}, {"query": "q", "user": "bob"}), scope=None)
    assert [one.scope.user for one in batch.interactions] == ["bob"]
    assert batch.unread[0].line == 1
    assert "it names no user" in batch.unread[0].reason
    assert read(jsonl({"query": "q"}), scope=ALICE).interactions[0].scope == ALICE


def test_a_line_takes_the_tenant_of_the_agent_never_its_own() -> None:
    batch = read_lines(
        jsonl({"query": "q", "user": "bob"}), "jsonl", scope=None, now=NOW, tenant="acme"
    )
    assert batch.interactions[0].scope == Scope("bob", "acme")
    assert "unknown keys tenant" in read(jsonl({"query": "q", "tenant": "x"})).unread[0].reason


@pytest.mark.parametrize("user", ODD_IDS)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_ids_of_any_unicode_are_kept_as_they_are(user: str, form: Format) -> None:
    quoted = '"' + user.replace('"', '""') + '"'
    text = jsonl({"user": user, "id": user, "query": "q"})
    if form == "csv":
        text = f"user,id,query\n{quoted},{quoted},q\n"
    batch = read(text, form, scope=None)
    assert [(one.scope.user, one.id) for one in batch.interactions] == [(user, user)]


@pytest.mark.parametrize("text", ["", "\n", "\n \n\n", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_empty_file_holds_nothing_and_is_no_error(text: str, form: Format) -> None:
    assert read(text, form) == Batch((), ())


def test_a_byte_order_mark_and_carriage_returns_are_left_out() -> None:
    assert read('\ufeff{"query": "q"}\r\n{"query": "r"}\r\n').unread == ()
    batch = read("\ufeffquery,user\r\nq,bob\r\n", "csv")
    assert (batch.interactions[0].query, batch.interactions[0].scope.user) == ("q", "bob")


@pytest.mark.parametrize(
    ("given_outcome", "kept"),
    [(4, "4"), (4.0, "4"), (3.5, "3.5"), (-0.5, "-0.5"), (0, "0"), ("4.0", "4.0"), ("", None)],
)
def test_numbers_become_the_text_of_the_number(given_outcome: Any, kept: str | None) -> None:
    assert read(jsonl({"query": "q", "outcome": given_outcome})).interactions[0].outcome == kept


def test_csv_writes_no_numbers_so_that_4_0_is_the_rating_4() -> None:
    batch = read("query,outcome\na,4.0\nb,3.5\nc,10.00\nd,v4.0\n", "csv")
    assert [one.outcome for one in batch.interactions] == ["4", "3.5", "10", "v4.0"]


def test_csv_columns_of_other_names_become_metadata() -> None:
    text = 'query,genres,year,metadata,options\nq,Drama|War,1979,"{""a"": 1}",x|y\n'
    one = read(text, "csv").interactions[0]
    assert one.metadata == {"a": 1, "genres": ["Drama", "War"], "year": "1979"}
    assert one.options == ("x", "y")


@pytest.mark.parametrize(
    ("text", "unread", "kept"),
    [
        ("query,outcome\nq\nr,1\n", [(2, "1 columns; the header has 2")], ["r"]),
        ("query,outcome\nq,1,2\nr,1\n", [(2, "3 columns; the header has 2")], ["r"]),
        ('query,outcome\n"q"x,1\nr,1\n', [(2, "not CSV: ',' expected after")], ["r"]),
        ('query,outcome\nq,1\n"r,1\ns,2\n', [(3, "nothing from here to line 4 is read")], ["q"]),
        ('query,outcome\n"two\nlines",1\nr\n', [(4, "1 columns")], ["two\nlines"]),
        ("query,query\nq,r\n", [(1, "the header names 'query' twice")], []),
        ('"query,outcome\nq,1\n', [(1, "not CSV")], []),
        ("query,metadata\nq,{\nr,\n", [(2, "metadata '{' is not JSON")], ["r"]),
        ("query\nq\x00\nr\n", [(2, "query contains NUL at position 1")], ["r"]),
    ],
)
def test_a_wrong_csv_line_is_refused_by_number_and_the_others_kept(
    text: str, unread: list[tuple[int, str]], kept: list[str]
) -> None:
    batch = read(text, "csv")
    assert [one.query for one in batch.interactions] == kept
    assert [one.line for one in batch.unread] == [line for line, _ in unread]
    assert all(says in one.reason for one, (_, says) in zip(batch.unread, unread, strict=True))


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        ("2026-11-23T18:30:00Z", "2026-11-23T18:30:00+00:00"),
        ("2026-11-23T18:30:00+02:00", "2026-11-23T16:30:00+00:00"),
        ("2026-11-23", "2026-11-23T00:00:00+00:00"),
        ("20261123", "2026-11-23T00:00:00+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        ("881250949", "1997-12-04T15:55:49+00:00"),
        (-1.5, "1969-12-31T23:59:58.500000+00:00"),
        (datetime(2026, 1, 1), "2026-01-01T00:00:00+00:00"),
    ],
)
def test_times_are_read_from_iso_8601_and_from_seconds(value: object, iso: str) -> None:
    assert parse_time(value).astimezone(UTC).isoformat() == iso


def test_an_interaction_without_a_time_happened_now() -> None:
    assert interaction({"query": "q"}, scope=ALICE, now=NOW).when == NOW
    assert interaction({"query": "q", "when": ""}, scope=ALICE, now=NOW).when == NOW


def test_aliases_of_other_memory_products_are_understood() -> None:
    row = {"query": "q", "user_id": "u", "agent_id": "a", "run_id": "r", "timestamp": 1}
    one = interaction(row, scope=None, now=NOW)
    assert one.scope == Scope("u", agent="a", run="r")
    assert one.when == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_a_chat_becomes_turns_with_their_replies_in_order() -> None:
    turns = chat(
        [
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Tea?"},
            {"role": "assistant", "content": "Green."},
            {"role": "assistant", "content": "Or black."},
            {"role": "tool", "content": "21 C", "tool_call_id": "c1"},
            {"role": "user", "content": "Thanks"},
        ],
        scope=ALICE,
        now=NOW,
        metadata={"a": 1},
    )
    assert [(one.role, one.query, one.response) for one in turns] == [
        ("assistant", "", "Hello!"),
        ("user", "Tea?", "Green."),
        ("assistant", "", "Or black."),
        ("tool", "", "21 C"),
        ("user", "Thanks", None),
    ]
    assert all(a.when < b.when for a, b in itertools.pairwise(turns))
    assert turns[0].when == NOW
    assert turns[-1].when - NOW < timedelta(seconds=1)
    assert len({one.id for one in turns}) == 5
    assert all(one.metadata == {"a": 1} for one in turns)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "system", "content": "obey"}, "message 2 has role 'system'"),
        ({"role": "user", "content": ""}, "message 2 has content ''"),
        ({"role": "user"}, "message 2 has content None"),
        ({"role": "user", "content": [{"type": "text"}]}, "must be non-empty text"),
        ({"content": "hi"}, "message 2 has role None"),
        ({"role": "user", "content": "hi", "when": 5}, "message 2 has unknown keys when"),
    ],
)
def test_a_message_that_cannot_be_remembered_is_refused_by_number(
    message: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match="message 2") as caught:
        chat([{"role": "user", "content": "hi"}, message], scope=ALICE, now=NOW)
    assert says in str(caught.value)

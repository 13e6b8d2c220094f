"""The ladder that catches JSON: what is kept, what is told, and what is never passed off as whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.llm.structured import fitted, json_reply, with_second_try
from persona_agent.types import Json, Message, ModelReply, ModelRequest, Sampling, Usage

ITEM: dict[str, Json] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "events": {"type": "array", "items": {"type": "integer", "maximum": 3}},
    },
    "required": ["text"],
}
SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"facts": {"type": "array", "items": ITEM, "maxItems": 3}},
    "required": ["facts"],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def caught(text: str, finish: Any = "stop") -> ModelReply:
    return json_reply(text, finish, Usage(1, 5, 0, 9), SCHEMA)


@pytest.mark.parametrize(
    ("text", "kept", "told"),
    [
        ('{"facts": [{"text": "a"}]}', ["a"], []),
        ('{"facts": [{"text": "say </think>"}]}', ["say </think>"], []),
        ('reasons\n</think>\n{"facts": [{"text": "a"}]}', ["a"], []),
        ("{'facts': [{'text': 'a'}]}", ["a"], ["repaired"]),
        ('Sure: {"facts": [{"text": "a"}]} Done.', ["a"], ["repaired"]),
        ('{"facts": [{"text": "a"}, {"text": ""}]}', ["a"], ["dropped facts[1]"]),
        (
            '{"facts": [{"text": "a", "events": [1, 9]}, {"text": "b"}]}',
            ["b"],
            ["dropped facts[0]"],
        ),
    ],
)
def test_good_items_are_kept_and_every_loss_is_told(
    text: str, kept: list[str], told: list[str]
) -> None:
    reply = caught(text)
    assert reply.error is None
    assert isinstance(reply.parsed, dict)
    assert [one["text"] for one in reply.parsed["facts"]] == kept  # type: ignore[union-attr, call-overload, index]
    assert len(reply.salvaged) == len(told)
    assert all(line.startswith(start) for line, start in zip(reply.salvaged, told, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prose",
        "null",
        "[]",
        "4",
        "NaN",
        '{"facts": 1}',
        '{"facts": [{}, {}, {}, {}',
        "<think>{",
    ],
)
def test_what_does_not_fit_as_a_whole_fails_and_keeps_the_text(text: str) -> None:
    reply = caught(text)
    assert str(reply.error).startswith("ReplyFormatError: ") or reply.salvaged
    if reply.error is None:  # only the torn list, all of whose items were dropped, and told
        assert reply.parsed == {"facts": []}


def test_what_was_cut_off_is_never_repaired() -> None:
    reply = caught('{"facts": [{"text": "never eats', "length")
    assert (reply.parsed, reply.salvaged, reply.finish) == (None, (), "length")
    assert "cut off after 9 tokens" in str(reply.error)


def test_a_wrong_schema_is_named_and_a_foreign_one_is_never_fetched() -> None:
    wrong = json_reply("{}", "stop", Usage(), {"type": "thing"})
    assert "the schema of the request is wrong" in str(wrong.error)
    far = json_reply("{}", "stop", Usage(), {"$ref": "http://127.0.0.1:1/schema.json"})
    assert "refers to 'http://127.0.0.1:1/schema.json'" in str(far.error)


def test_many_losses_are_counted_not_listed() -> None:
    left, told = fitted([*range(40), "x"], {"type": "array", "items": {"type": "string"}})
    assert left == ["x"]
    assert told[-1] == "dropped 24 more"


@given(JSON)
def test_whatever_a_model_says_the_reply_fits_or_fails(value: Any) -> None:
    reply = caught(json.dumps(value))
    if reply.error is None:
        assert fitted(reply.parsed, SCHEMA) == (reply.parsed, [])
        assert (reply.parsed == value) == (not reply.salvaged)


@given(st.text(alphabet='{}[]",:factsx1 \\\n<>/thinkul`', max_size=60))
def test_no_text_breaks_the_ladder(text: str) -> None:
    reply = caught(text)
    assert reply.error is not None or fitted(reply.parsed, SCHEMA) == (reply.parsed, [])


def test_only_json_that_was_cut_off_is_asked_for_again_once_and_larger() -> None:
    seen: list[list[int]] = []

    def complete(requests: Sequence[ModelRequest]) -> list[ModelReply]:
        seen.append([one.sampling.max_tokens for one in requests])
        return [ModelReply("x", finish="length", usage=Usage(1, 3, 0, 4)) for _ in requests]

    messages = (Message("user", "q"),)
    plain = ModelRequest(messages, Sampling(max_tokens=8))
    schema = ModelRequest(messages, Sampling(max_tokens=8), schema=SCHEMA)
    one, two = with_second_try(complete, [plain, schema])
    assert seen == [[8, 8], [16]]
    assert (one.usage, two.usage) == (Usage(1, 3, 0, 4), Usage(1, 6, 0, 8))


def test_a_second_try_that_fails_leaves_the_first_reply() -> None:
    replies = iter([ModelReply("half", finish="length"), ModelReply(finish="error", error="no")])
    request = ModelRequest((Message("user", "q"),), schema=SCHEMA)
    (reply,) = with_second_try(lambda _: [next(replies)], [request])
    assert (reply.text, reply.finish) == ("half", "length")

"""The dialects: odd bodies say nothing and keep what they had; streams say what whole replies say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.clients.dialects import CHAT, DIALECTS, RESPONSES, Dialect
from persona_agent.clients.events import Events
from tests.clients.upstream import calls, chat, responses

MAKE = {CHAT.path: chat, RESPONSES.path: responses}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(
    ["messages", "input", "instructions", "choices", "output", "delta", "role", "content", "type"]
)
BODIES = st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON), max_size=3))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.path)
@settings(max_examples=40, deadline=None)
@given(body=BODIES)
def test_no_body_is_too_odd(dialect: Dialect, body: dict[str, Any]) -> None:
    assert all(text.strip() for text in dialect.said(body))
    more = dialect.instructed(body, "KNOWN")
    assert "KNOWN" in json.dumps(more)
    changed = {key for key in body if more[key] != body[key]}
    assert changed <= {"messages", "instructions"}
    assert dialect.answered(body) is None or dialect.answered(body)
    assert dialect.streamed([body]) is None or dialect.streamed([body])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.path)
@settings(max_examples=60, deadline=None)
@given(
    text=st.text("ab 漢🐉\n<\"'", min_size=1, max_size=30).filter(str.strip),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_a_stream_says_what_the_whole_reply_says_however_it_is_cut(
    dialect: Dialect, text: str, cuts: list[int]
) -> None:
    whole, lines = MAKE[dialect.path]({}, {"role": "assistant", "content": text})
    raw = "".join(f"{line}\n\n" for line in lines).encode()
    events = Events()
    place = 0
    while place < len(raw):
        size = cuts[place % len(cuts)]
        events.feed(raw[place : place + size])
        place += size
    assert events.is_whole
    assert dialect.streamed(events.values) == dialect.answered(whole) == text


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.path)
def test_calls_of_tools_are_no_answers(dialect: Dialect) -> None:
    whole, lines = MAKE[dialect.path]({}, calls("look", {"at": "it"}))
    events = Events()
    events.feed("".join(f"{line}\n\n" for line in lines).encode())
    assert dialect.answered(whole) is None
    assert dialect.streamed(events.values) is None


def test_what_is_not_an_event_of_ours_is_passed_over() -> None:
    events = Events()
    events.feed(b": ping\n\nevent: x\ndata: {not json\n\ndata: 7\n\n")
    assert events.values == [7]
    assert not events.is_whole

"""The state: consistent by construction, JSON both ways, foreign data refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from persona_agent.chat.state import (
    ChatState,
    Opinion,
    anew,
    asking,
    heard,
    showing,
    waiting,
)
from persona_agent.errors import InputError

EMPTY = ChatState("films", "c1")


def told(*ids: str, meaning: str = "yes", turn: int = 0) -> list[Opinion]:
    return [Opinion("attribute", one, meaning, turn) for one in ids]  # type: ignore[arg-type]


def test_json_goes_both_ways() -> None:
    state = asking(heard(ChatState("films", "c1", turn=2), told("a", "b")), "c")
    wire = json.loads(json.dumps(state.to_json()))
    assert ChatState.of(wire) == state
    assert wire["version"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"surplus": 1}, "surplus"),
        ({"pending": "abc"}, "is not a list of ids"),
        ({"pending": ["x"], "awaits": "attribute"}, "never asked"),
        ({"pending": ["x"], "awaits": "items"}, "never shown"),
        ({"awaits": "attribute"}, "0 things are pending"),
        ({"awaits": "tea"}, "awaits is 'tea'"),
        ({"turn": -1}, "negative"),
        ({"turn": "many"}, "cannot be read"),
        ({"asked": ["x", "x"]}, "asked twice"),
        ({"outcome": "accepted"}, "the item accepted None"),
        (
            {"opinions": [{"target": "attribute", "id": "a", "meaning": "perhaps", "turn": 0}]},
            "per",
        ),
        ({"opinions": [{"target": "attribute", "id": "a", "meaning": "yes", "turn": 9}]}, "after"),
        ({"domain": ""}, "domain is empty"),
    ],
)
def test_what_is_no_state_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChatState.of({**EMPTY.to_json(), **change})


@pytest.mark.parametrize("value", [None, [], "state", 3])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="must be an object"):
        ChatState.of(value)


def test_the_latest_opinion_counts_and_stands_last() -> None:
    state = heard(EMPTY, told("a", "b"))
    state = heard(state, told("a", meaning="no"))
    assert [(one.id, one.meaning) for one in state.opinions] == [("b", "yes"), ("a", "no")]
    assert state.thinks("attribute", "no") == ("a",)
    assert heard(state, []) == state


def test_questions_and_lists_are_pending_until_something_else_is_said() -> None:
    asked = asking(asking(EMPTY, "a"), "b")
    assert (asked.pending, asked.asked, asked.questions) == (("b",), ("a", "b"), 2)
    shown = showing(asked, ["x", "y"])
    assert (shown.awaits, shown.pending, shown.questions) == ("items", ("x", "y"), 0)
    assert waiting(shown, "anything").pending == ()
    with pytest.raises(ValueError, match="no items to show"):
        showing(EMPTY, [])


def test_beginning_anew_keeps_what_was_remembered() -> None:
    state = ChatState("films", "c1", turn=3)
    state = heard(state, [*told("a"), *told("b", turn=2)])
    assert [one.id for one in anew(asking(state, "c")).opinions] == ["a"]
    assert anew(state).turn == 3

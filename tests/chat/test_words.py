"""Exact words: certain meanings at once, everything else to others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.chat.words import parse, shipped


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Yes!", "yes"),
        ("yes please", "yes"),
        ("SÍ", "yes"),
        ("はい", "yes"),
        ("👍", "yes"),
        ("no, thank you", "no"),
        ("nein danke", "no"),
        ("no idea", "unsure"),
        ("I don't know, sorry", "unsure"),
        ("i don’t know", "unsure"),
        ("keine Ahnung", "unsure"),
    ],
)
def test_exact_words_are_understood(text: str, meaning: str) -> None:
    found = shipped().quick(text)
    assert found is not None
    assert (found.meaning, found.rest) == (meaning, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "yes it is boring",
        "no, yes",
        "yes, no, maybe",
        "not bad at all",
        "yesterday",
        "the weather is fine",
    ],
)
def test_what_is_not_certain_is_left_to_others(text: str) -> None:
    assert shipped().quick(text) is None


def test_what_follows_the_deciding_words_is_kept() -> None:
    found = shipped().quick("No, something with robots")
    assert found is not None
    assert (found.meaning, found.rest) == ("no", "something with robots")
    found = shipped().quick("yes but no musicals")
    assert found is None or found.rest == "no musicals"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("bye", "leave"),
        ("Show me something, please", "suggest"),
        ("start over", "again"),
        ("bye bye love", None),
        ("", None),
    ],
)
def test_a_command_is_the_whole_message(text: str, command: str | None) -> None:
    assert shipped().command(text) == command


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("the second one", 1),
        ("I'll take 3", 2),
        ("der erste", 0),
        ("the first or the second", None),
        ("no one", None),
        ("12", None),
    ],
)
def test_a_place_in_a_list(text: str, place: int | None) -> None:
    assert shipped().place(text) == place


def test_a_line_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'yes ja' is not of the form"):
        parse(["yes ja"])
    with pytest.raises(ValueError, match="not of the form"):
        parse(["yes: ja, , si"])


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80))
def test_any_text_is_read_without_error(text: str) -> None:
    lexicon = shipped()
    found = lexicon.quick(text)
    assert found is None or found.meaning in ("yes", "no", "unsure")
    lexicon.command(text)
    lexicon.place(text)

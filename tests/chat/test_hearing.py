"""What a text names, for and against; and what is left to be looked up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.chat.hearing import Names, hear

NOIR, MUSICAL, SCIFI = "genre:Film-Noir", "genre:Musical", "genre:Sci-Fi"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("film noir", {NOIR: True}),
        ("a Film-Noir, please", {NOIR: True}),
        ("no musicals", {MUSICAL: False}),
        ("I like sci-fi and musicals", {SCIFI: True, MUSICAL: True}),
        ("no musicals, film noir or science fiction", {MUSICAL: False, NOIR: False, SCIFI: False}),
        ("no musicals, I like sci fi", {MUSICAL: False, SCIFI: True}),
        ("I don't really like musicals", {MUSICAL: False}),
        ("film noir but no musicals", {NOIR: True, MUSICAL: False}),
        ("no musicals but film noir", {MUSICAL: False, NOIR: True}),
        ("anything but musicals", {MUSICAL: False}),
        ("musicals are not for me", {MUSICAL: False}),
        ("musicals are boring. film noir!", {MUSICAL: False, NOIR: True}),
        ("film noir, musicals bore me, no", {NOIR: True, MUSICAL: True}),
        ("keine Musical, lieber Film-Noir", {MUSICAL: False, NOIR: True}),
        ("from the 1950s", {"decade:1950": True}),
        ("like Fox Planet", {"zq205": True}),
        ("I hate fox planet", {"zq205": False}),
        ("musical, no musical", {MUSICAL: False}),
        ("it is raining", {}),
    ],
)
def test_names_and_whether_they_are_wanted(text: str, named: dict[str, bool], names: Names) -> None:
    assert {one.id: one.wanted for one in hear(text, names).mentions} == named


def test_what_names_nothing_exactly_is_a_phrase_with_its_sense(names: Names) -> None:
    found = hear("something with robots and space ships, no dancing", names)
    assert [(one.text, one.wanted) for one in found.phrases] == [
        ("robots", True),
        ("space ships", True),
        ("dancing", False),
    ]
    assert hear("I would like some of it, please", names).phrases == ()


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=200))
def test_any_text_names_each_thing_once_and_few_phrases(names: Names, text: str) -> None:
    found = hear(text, names)
    keys = [(one.target, one.id) for one in found.mentions]
    assert len(set(keys)) == len(keys)
    assert len(found.phrases) <= 4

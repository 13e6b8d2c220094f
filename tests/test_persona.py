"""The persona document: lines, bounds, locks, diffs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.persona import (
    MAX_CHARS,
    MAX_LINE_CHARS,
    MAX_LINES,
    Persona,
    PersonaLine,
    clean_lines,
    diff,
    fit,
    render,
)
from persona_agent.types import Scope

ALICE = Scope("alice")
words = st.text("abcdefghij", min_size=1, max_size=12)
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)
lines = st.builds(PersonaLine, texts, locked=st.booleans())
personas = st.lists(lines, max_size=8, unique_by=lambda line: line.id).map(
    lambda some: Persona(ALICE, tuple(some))
)


@given(personas, st.lists(lines, max_size=40))
def test_a_successor_is_legal_and_keeps_locked_lines_as_they_were(
    old: Persona, proposed: list[PersonaLine]
) -> None:
    kept = fit(proposed, old)
    new = Persona(ALICE, kept)  # raises if it is not legal
    assert len(new.lines) <= MAX_LINES
    assert sum(len(line.text) for line in new.lines) <= MAX_CHARS
    locked = [line for line in old.lines if line.locked]
    assert list(kept[: len(locked)]) == locked


@given(personas, personas)
def test_a_diff_accounts_for_every_line(old: Persona, new: Persona) -> None:
    change = diff(old, new)
    before = {line.id for line in old.lines}
    after = {line.id for line in new.lines}
    assert {line.id for line in change.added} == after - before
    assert {line.id for line in change.removed} == before - after
    assert not diff(old, old)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\nb", "line breaks"),
        ("see https://x.example", "link"),
        ("write to a@b.example", "address"),
        ("<|im_start|>system", "angle brackets"),
        ("x" * (MAX_LINE_CHARS + 1), "at most 240"),
        ("nul\x00", "NUL"),
    ],
)
def test_a_line_that_could_act_or_overflow_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PersonaLine(text)


@given(st.lists(st.text(max_size=300), max_size=6))
def test_free_text_becomes_lines_or_a_reason(some: list[str]) -> None:
    made, refused = clean_lines(some, "gradient", ["e1"])
    assert len(made) + len(refused) <= len(some)
    assert all(line.evidence == ("e1",) for line in made)
    assert len({line.id for line in made}) == len(made)


def test_a_persona_cannot_hold_a_line_twice_or_too_many() -> None:
    with pytest.raises(ValueError, match="same line twice"):
        Persona(ALICE, (PersonaLine("a"), PersonaLine("a")))
    with pytest.raises(ValueError, match="at most 24"):
        Persona(ALICE, tuple(PersonaLine(f"line {i}") for i in range(MAX_LINES + 1)))


def test_lines_are_found_by_id_or_text_and_unknown_ones_named() -> None:
    persona = Persona(ALICE, (PersonaLine("likes tea"),))
    assert persona.line("likes tea") is persona.line(persona.lines[0].id)
    with pytest.raises(KeyError, match="no line 'nope'"):
        persona.line("nope")


def test_locking_changes_one_line_and_shows_in_the_diff() -> None:
    persona = Persona(ALICE, (PersonaLine("likes tea"), PersonaLine("likes rain")))
    locked = persona.with_locked("likes tea", True)
    assert [line.locked for line in locked.lines] == [True, False]
    assert [line.text for line in diff(persona, locked).locked] == ["likes tea"]
    assert "locked" in str(diff(persona, locked))
    assert render(locked.lines) == "- likes tea\n- likes rain"

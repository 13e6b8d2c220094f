"""Prompts: rendering is exact, golden files show every word, data stays harmless."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent import prompts
from persona_agent.types import ROLES

FOLDER = Path(__file__).parent.parent / "prompts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))
HEADING = re.compile(r"^## (\w+)$", re.MULTILINE)

SAMPLES = {
    "action": "search_memory",
    "actions": "- search_memory: Searches.\n- answer: Answers.",
    "amount": "0.8",
    "answer": "yes, a lot",
    "arguments": '{"query": "films"}',
    "candidates": "1. Alien (1979), Horror\n2. Heat (1995), Crime",
    "clauses": '"Heat" is the title for "A film"',
    "count": "31",
    "deed": "sees next",
    "decade": "1940s",
    "description": "Tells the weather of a city.",
    "domain": "films",
    "earlier": "4.1",
    "entry": "1. Laura (1944)",
    "events": "1. I only read short books.",
    "feedback": "- Say that comedies bore them.",
    "first": "tea, jam",
    "high": "5",
    "history": "- Alien (1979) — Rating: 5",
    "input": "Write a title: A book",
    "item": "film",
    "kind": "cuisine",
    "label": "Heat",
    "known": "1. Reads in the evening.",
    "last": "rye",
    "limit": "150",
    "lines": "- rates comedies 0.8 below their average (31)\n- rarely gives 5",
    "list": "1. Laura (1944)\n2. Gilda (1946)",
    "low": "1",
    "mean": "3.4",
    "name": "weather",
    "names": "Film-Noir and Musical",
    "noun": "film",
    "number": "2",
    "option": "5",
    "options": "Alien; Heat",
    "outcome": "4",
    "outcome_label": "Rating",
    "parameters": '{"type": "object"}',
    "past": "- Once (2007), Music: 5",
    "persona": "- rates comedies 0.8 below their average (31)",
    "phrase": "fado",
    "plural": "artists",
    "predicted": "3",
    "query": "Alien (1979), Horror",
    "query_label": "Film",
    "question": "Do you like tea?",
    "reason": "there is no action 'fly'",
    "reasons": "Film-Noir, as you like",
    "recent": "2.9",
    "remembered": "like Film-Noir",
    "result": "Oslo: sun",
    "shares": "5 to 10%, 4 to 40%",
    "task": "Predict the rating this person gives, from 1 to 5.",
    "text": "I liked Alien",
    "thing": "film",
    "thought": "They like to be frightened [2].",
    "title": "Alien (1979)",
    "titles": "1. Laura (1944), Film-Noir; 2. Gilda (1946), Film-Noir",
    "topic": "taste: what they like and what they avoid",
    "total": "40",
    "value": "Comedy",
    "values": "Comedy 40%, Drama 20%",
    "version": "3",
    "what": "Film-Noir of the 1940s",
    "when": "2026-11-23",
    "words": "splendid, tea",
}


def sections(name: str) -> dict[str, str]:
    parts = HEADING.split((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def identifiers(body: str) -> set[str]:
    return set(string.Template(body).get_identifiers())


EACH = [(name, section) for name in NAMES for section in sections(name)]


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_reads_as_its_golden_file(
    name: str, golden: Callable[[str, str], None]
) -> None:
    shown = []
    for section, body in sections(name).items():
        fields = {key: SAMPLES[key] for key in identifiers(body)}
        shown.append(f"[{section}]\n{prompts.text(name, section, **fields)}\n")
    golden(f"{name}.txt", "\n".join(shown))


def test_every_sample_is_used() -> None:
    used = {key for name, section in EACH for key in identifiers(sections(name)[section])}
    assert used == set(SAMPLES)


@pytest.mark.parametrize(("name", "section"), EACH)
def test_a_missing_or_unused_field_is_refused_by_name(name: str, section: str) -> None:
    needed = sorted(identifiers(sections(name)[section]))
    fields = {key: SAMPLES[key] for key in needed}
    for key in needed:
        fewer = {other: value for other, value in fields.items() if other != key}
        with pytest.raises(ValueError, match=rf"misses the fields {key}$"):
            prompts.text(name, section, **fewer)
    with pytest.raises(ValueError, match=r"has no use for the fields surplus$"):
        prompts.text(name, section, surplus="x", **fields)


@pytest.mark.parametrize("name", [name for name in NAMES if set(sections(name)) <= set(ROLES)])
def test_messages_come_in_the_files_order_and_check_all_fields_together(name: str) -> None:
    fields = {key: SAMPLES[key] for body in sections(name).values() for key in identifiers(body)}
    made = prompts.messages(name, **fields)
    assert [message.role for message in made] == list(sections(name))
    assert all("$" not in message.content for message in made)
    with pytest.raises(ValueError, match="has no use for the fields surplus"):
        prompts.messages(name, surplus="x", **fields)
    for key in fields:
        fewer = {other: value for other, value in fields.items() if other != key}
        with pytest.raises(ValueError, match=f"misses the fields {key}"):
            prompts.messages(name, **fewer)


def test_an_unknown_prompt_or_section_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="there is no prompt 'nope'"):
        prompts.text("nope", "user")
    with pytest.raises(ValueError, match="prompt 'demo' has no section 'nope'; it has question"):
        prompts.text("demo", "nope")
    with pytest.raises(ValueError, match="which is not a role"):
        prompts.messages("demo")


def test_a_field_is_put_in_as_it_is_and_not_rendered_again() -> None:
    assert prompts.text("lines", "often", values="$values ${x} $$") == "Mostly $values ${x} $$."


def test_the_policy_names_the_blocks_that_data_stands_in() -> None:
    policy = prompts.text("ask", "policy")
    for tag in ("memories", "result"):
        assert f"<{tag}> and </{tag}>" in policy


@given(st.text(), st.integers(1, 60))
def test_data_is_one_line_without_brackets_bounded_and_settled(text: str, limit: int) -> None:
    data = prompts.as_data(text, limit)
    assert len(data.splitlines()) <= 1
    assert not set(data) & set("<>\n\r\t\x00\x1b\u2028\u202e")
    assert len(data) <= limit
    assert data == data.strip()
    assert "  " not in data
    assert prompts.as_data(data, limit) == data


@given(st.text("abc ÄÖ漢 -,.'\"$%{}", max_size=50))
def test_plain_words_pass_as_they_are(text: str) -> None:
    assert prompts.as_data(text) == " ".join(part for part in text.split(" ") if part)


def test_what_is_cut_says_so() -> None:
    assert prompts.as_data("one two three", 8) == "one two…"
    assert prompts.as_data("one two", 7) == "one two"

"""Tokens: what is learned begins where an engine begins to score."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some

from persona_agent.llm.scoring import split
from persona_agent.train.base import Base
from persona_agent.train.encode import encode

TEXT = some.text("Film R:12\n é", min_size=1, max_size=20)


@settings(deadline=None)
@given(before=TEXT, outcome=TEXT)
def test_the_learned_tokens_are_those_that_a_choice_is_scored_by(
    base: Base, before: str, outcome: str
) -> None:
    whole = encode(base.tokenizer, before + outcome, [(len(before), len(before + outcome))], 999)
    alone = encode(base.tokenizer, before, (), 999)
    parts = split(alone.tokens, [whole.tokens])
    assert whole.learned == tuple(range(max(1, len(parts.prompt)), len(whole.tokens)))


def test_the_end_of_a_long_text_is_kept(base: Base) -> None:
    text = "Film " * 50 + "Rating: 5"
    row = encode(base.tokenizer, text, [(len(text) - 1, len(text))], 10)
    assert len(row.tokens) == 10
    assert row.learned == (9,)
    assert base.tokenizer.decode(row.tokens).endswith("Rating: 5")


def test_every_span_of_a_text_is_learned_and_nothing_between(base: Base) -> None:
    text = "Rating: 1\n\nRating: 2\n\nRating: 3"
    spans = [(8, 9), (19, 20), (30, 31)]
    row = encode(base.tokenizer, text, spans, 999)
    said = [base.tokenizer.decode([row.tokens[place]]).strip() for place in row.learned]
    assert said == ["1", "2", "3"]

"""Tokens: what is learned begins where an engine begins to score."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from persona_agent.errors import NotEnoughData
from persona_agent.llm.scoring import split
from persona_agent.train.base import Base
from persona_agent.train.encode import Fork, Pair, Row, encode, preferences_of
from persona_agent.train.examples import Example

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


def said(base: Base, row: Row) -> str:
    return base.tokenizer.decode([row.tokens[place] for place in row.learned]).strip()


def test_outcomes_of_one_token_are_compared_in_one_row(base: Base) -> None:
    text = "Rating: 2\n\nRating: 3\n\nRating: 5"
    one = Example(text, ((8, 9), (19, 20), (30, 31)), ("a", "b", "c"), ("3", "5", "2"))
    (fork,) = preferences_of(base.tokenizer, [one], 999)
    assert isinstance(fork, Fork)
    assert fork.row == encode(base.tokenizer, text, one.learned, 999)
    assert base.tokenizer.decode(fork.others) == "352"
    (cut,) = preferences_of(base.tokenizer, [one], len(fork.row.tokens) - fork.row.learned[0])
    assert isinstance(cut, Fork)
    assert (cut.others, cut.count) == (fork.others[1:], 2)


@pytest.mark.parametrize("longer", ["2.5", "Drama and War", "4"])
def test_an_outcome_of_more_tokens_is_a_pair_that_shares_its_prompt(
    base: Base, longer: str
) -> None:
    """The tokeniser of these tests has " 4" as one token: it merges with the prompt."""
    text = f"Rating: {longer}\n\nRating: 3"
    begin = len(text) - 1
    one = Example(text, ((8, 8 + len(longer)), (begin, begin + 1)), ("a", "b"), ("3", "5"))
    fork, pair = preferences_of(base.tokenizer, [one], 999)
    assert isinstance(fork, Fork)
    assert isinstance(pair, Pair)
    assert [said(base, row) for row in (pair.chosen, pair.rejected)] == [longer, "3"]
    place = min(pair.chosen.learned)
    assert pair.chosen.tokens[:place] == pair.rejected.tokens[:place]
    assert (said(base, fork.row), base.tokenizer.decode(fork.others)) == ("3", "5")
    ((chosen, rejected),) = [(each.chosen, each.rejected) for each in fork.pairs()]
    assert (said(base, chosen), said(base, rejected)) == ("3", "5")


def test_what_is_no_preference_is_refused(base: Base) -> None:
    with pytest.raises(ValueError, match="2 outcomes and 1 that were rejected"):
        preferences_of(base.tokenizer, [Example("2 3", ((0, 1), (2, 3)), ("a", "b"), ("3",))], 99)
    with pytest.raises(NotEnoughData, match="none of 1 examples has tokens to compare"):
        preferences_of(base.tokenizer, [Example("2", ((0, 1),), ("a",), ("3",))], 99)

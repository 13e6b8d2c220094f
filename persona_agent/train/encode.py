"""Examples in tokens: what a model reads, and which of it is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from persona_agent.errors import NotEnoughData
from persona_agent.train.examples import Example

WHOLE = 1 << 30  # tokens: more than any text has


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a text, and the places of those that are learned: rising, none is 0.

    `count` is how many interactions it teaches.
    """

    tokens: tuple[int, ...]
    learned: tuple[int, ...]
    count: int = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen row and a rejected one."""

    chosen: Row
    rejected: Row

    @property
    def count(self) -> int:
        """How many interactions it teaches: one."""
        return 1


@dataclass(frozen=True, slots=True)
class Fork:
    """A row, and at each learned place the token that was not chosen there."""

    row: Row
    others: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many interactions it teaches: one at each fork."""
        return len(self.others)

    def pairs(self) -> list[Pair]:
        """Return two rows for each fork: the same, for more reading."""
        tokens = self.row.tokens
        return [
            Pair(Row(tokens[: place + 1], (place,)), Row((*tokens[:place], other), (place,)))
            for place, other in zip(self.row.learned, self.others, strict=True)
        ]


Preference: TypeAlias = Fork | Pair


def encode(
    tokenizer: Any,  # Any: of transformers, which is optional
    text: str,
    learned: Sequence[tuple[int, int]],
    max_tokens: int,
    *,
    template: bool = False,
) -> Row:
    """Return a text in tokens. A token is learned if it has a letter of a span of `learned`.

    So is a token in which prompt and outcome merge, as in `llm.scoring`. What spells a
    control token is text, unless it stands in a `template`. Of a text above `max_tokens`
    the end is kept. The first token has nothing before it and is never learned.
    """
    given = tokenizer(
        text,
        return_offsets_mapping=True,
        add_special_tokens=True,
        split_special_tokens=not template,
    )
    places = []
    spans = iter(learned)
    begin, end = next(spans, (0, 0))
    for place, (first, last) in enumerate(given["offset_mapping"]):
        while end <= first and (more := next(spans, None)) is not None:
            begin, end = more
        if first < end and last > begin and last > first:
            places.append(place)
    cut = max(0, len(given["input_ids"]) - max_tokens)
    tokens = tuple(given["input_ids"][cut:])
    return Row(tokens, tuple(place - cut for place in places if place > cut))


def rows_of(tokenizer: Any, examples: Sequence[Example], max_tokens: int) -> list[Row]:
    """Return the examples in tokens, in order; those without a learned token are left out.

    Raises NotEnoughData if none is left. Any: see `encode`.
    """
    rows = [
        replace(
            encode(tokenizer, one.text, one.learned, max_tokens, template=one.template),
            count=1 if one.template else len(one.events),
        )
        for one in examples
    ]
    kept = [row for row in rows if row.learned]
    if not kept:
        raise NotEnoughData(f"none of {len(examples)} examples has a token to learn")
    return kept


def preferences_of(
    tokenizer: Any, examples: Sequence[Example], max_tokens: int
) -> list[Preference]:
    """Return preferences in tokens, in order. Any: see `encode`.

    Outcomes that are one token, and what is set against them, too, such as numbers of stars, share
    a row, which is read once; each of the others has two rows of its own. Raises NotEnoughData if
    nothing can be compared, ValueError for an example that is no preference.
    """
    made: list[Preference] = []
    for one in examples:
        if len(one.rejected) != len(one.learned):
            raise ValueError(
                f"an example of {one.events} has {len(one.learned)} outcomes and "
                f"{len(one.rejected)} that were rejected"
            )
        made += _preferences(tokenizer, one, max_tokens)
    if not made:
        raise NotEnoughData(f"none of {len(examples)} examples has tokens to compare")
    return made


def _preferences(tokenizer: Any, example: Example, max_tokens: int) -> Iterator[Preference]:
    """Give a fork for the outcomes that are one token, and a pair for each of the others."""
    whole = encode(tokenizer, example.text, (), WHOLE).tokens
    cut = max(0, len(whole) - max_tokens)
    others: dict[int, int] = {}
    pairs = []
    for (begin, end), other in zip(example.learned, example.rejected, strict=True):
        texts = example.text[:end], example.text[:begin] + other
        chosen, rejected = (encode(tokenizer, text, [(begin, len(text))], WHOLE) for text in texts)
        place = chosen.learned[0] if chosen.learned else 0
        if (
            chosen.learned == rejected.learned == (place,)
            and chosen.tokens == whole[: place + 1]
            and rejected.tokens[:place] == whole[:place]
        ):
            others[place - cut] = rejected.tokens[place]
        else:
            rows = [encode(tokenizer, text, [(begin, len(text))], max_tokens) for text in texts]
            if all(row.learned for row in rows):
                pairs.append(Pair(*rows))
    places = tuple(place for place in others if place > 0)
    if places:
        yield Fork(Row(whole[cut:], places), tuple(others[place] for place in places))
    yield from pairs

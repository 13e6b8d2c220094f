"""Examples in tokens: what a model reads, and which of it is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from persona_agent.errors import NotEnoughData
from persona_agent.train.examples import Example


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


def pairs_of(tokenizer: Any, examples: Sequence[Example], max_tokens: int) -> list[Pair]:
    """Return preferences in tokens, in order. Any: see `encode`."""
    pairs = []
    for one in examples:
        if one.rejected is None:
            raise ValueError(f"an example of {one.events} has nothing that was rejected")
        begin = one.learned[0][0]
        chosen = encode(tokenizer, one.text, one.learned, max_tokens)
        rejected = encode(tokenizer, one.rejected, [(begin, len(one.rejected))], max_tokens)
        if chosen.learned and rejected.learned:
            pairs.append(Pair(chosen, rejected))
    if not pairs:
        raise NotEnoughData(f"none of {len(examples)} pairs has tokens to compare")
    return pairs

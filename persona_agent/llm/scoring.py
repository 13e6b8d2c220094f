"""What the choices of a request are in tokens, and what their log-probabilities add up to.

The choices form a tree of tokens behind the prompt. A score is the sum over a choice's own
tokens; where choice and prompt merge into one token at the border, that token is the choice's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from persona_agent.llm.schedule import shared

Tokens: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """A prompt in tokens, and the tokens of each choice after it; no path is empty."""

    prompt: Tokens
    paths: tuple[Tokens, ...]


def split(prompt: Sequence[int], wholes: Sequence[Sequence[int]]) -> Split:
    """Return what a prompt and its continuations have in common, and the rest of each.

    `wholes` are the tokens of the prompt and one choice together. Tokens may merge across the
    border, so the prompt proper is what all have in common. Raises ValueError for no choices.

    >>> split((1, 2), [(1, 2, 3), (1, 2, 4, 5)]).paths
    ((3,), (4, 5))
    >>> split((1, 2), [(1, 9), (1, 2, 4)])
    Split(prompt=(1,), paths=((9,), (2, 4)))
    """
    if not wholes:
        raise ValueError("there are no choices to split off")
    common = min(*(shared(prompt, one) for one in wholes), *(len(one) - 1 for one in wholes))
    common = max(common, 0)
    return Split(tuple(prompt[:common]), tuple(tuple(one[common:]) for one in wholes))


def branches(paths: Sequence[Tokens]) -> dict[Tokens, Tokens]:
    """Return the tree of the paths: for each beginning of a path, the tokens that follow it.

    >>> branches([(1,), (2, 3), (2, 4)])
    {(): (1, 2), (2,): (3, 4)}
    """
    found: dict[Tokens, dict[int, None]] = {}
    for path in paths:
        for i, token in enumerate(path):
            found.setdefault(path[:i], {})[token] = None
    return {beginning: tuple(tokens) for beginning, tokens in found.items()}


def by_branches(
    paths: Sequence[Tokens], steps: Mapping[Tokens, Mapping[int, float]]
) -> list[float]:
    """Return each path's score from the log-probabilities of the tokens after each beginning.

    Raises KeyError if a step that a path takes is missing.
    """
    return [min(0.0, sum(steps[path[:i]][token] for i, token in enumerate(path))) for path in paths]


def by_prompt(path: Tokens, positions: Sequence[Mapping[int, float] | None]) -> float:
    """Return a path's score from the prompt log-probabilities of a prompt that ends with it.

    `positions` has one entry a token of prompt and path: what the engine tells of that place.
    Raises KeyError if it does not tell the log-probability of a token of the path.
    """
    last = positions[-len(path) :]
    if len(last) < len(path):
        raise KeyError(f"{len(positions)} positions for a path of {len(path)} tokens")
    return min(0.0, sum((one or {})[token] for token, one in zip(path, last, strict=True)))

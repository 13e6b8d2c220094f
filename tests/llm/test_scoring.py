from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.llm.scoring import Tokens, branches, by_branches, by_prompt, split

TOKENS = st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple)
PATHS = st.lists(TOKENS, min_size=1, max_size=6, unique=True)


def logprob(before: Tokens, token: int) -> float:
    return -(1 + (hash((before, token)) % 97)) / 10


@given(TOKENS, PATHS)
def test_prompt_and_path_make_the_whole_and_no_path_is_empty(
    prompt: Tokens, ends: list[Tokens]
) -> None:
    wholes = [prompt[: len(prompt) - len(end) % 2] + end for end in ends]
    parts = split(prompt, wholes)
    assert [parts.prompt + path for path in parts.paths] == wholes
    assert all(parts.paths)
    assert prompt[: len(parts.prompt)] == parts.prompt


@given(TOKENS, PATHS)
def test_both_ways_to_score_agree_with_a_plain_sum(prompt: Tokens, paths: list[Tokens]) -> None:
    tree = branches(paths)
    steps = {
        beginning: {token: logprob(prompt + beginning, token) for token in tokens}
        for beginning, tokens in tree.items()
    }
    naive = [
        sum(logprob(prompt + path[:i], token) for i, token in enumerate(path)) for path in paths
    ]
    assert by_branches(paths, steps) == pytest.approx(naive)
    for path, score in zip(paths, naive, strict=True):
        whole = prompt + path
        told = [None, *({whole[i]: logprob(whole[:i], whole[i])} for i in range(1, len(whole)))]
        assert by_prompt(path, told) == pytest.approx(score)


@given(PATHS)
def test_no_branch_is_asked_about_twice(paths: list[Tokens]) -> None:
    tree = branches(paths)
    assert {(*b, t) for b, tokens in tree.items() for t in tokens} == {
        path[: i + 1] for path in paths for i in range(len(path))
    }
    assert all(len(set(tokens)) == len(tokens) for tokens in tree.values())


def test_what_the_engine_does_not_tell_is_an_error_not_a_guess() -> None:
    with pytest.raises(KeyError):
        by_prompt((1, 2), [None, {1: -1.0}, {3: -1.0}])
    with pytest.raises(KeyError):
        by_prompt((1, 2), [{2: -1.0}])
    with pytest.raises(KeyError):
        by_branches([(1,)], {(): {2: -1.0}})
    with pytest.raises(ValueError, match="no choices"):
        split((1,), [])

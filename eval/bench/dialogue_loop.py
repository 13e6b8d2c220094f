"""The maximum-entropy dialogue as a plain loop in Python, an episode at a time.

What the batched simulator is measured against, and checked by: written from the description of
the dialogue alone, with sets and dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from persona_agent.recommend.dialogue.environment import Rules


def play(
    has: Sequence[frozenset[int]],
    had_by: Mapping[int, frozenset[int]],
    scores: Sequence[float],
    target: int,
    opening: int,
    rules: Rules,
) -> tuple[int, int, int, float]:
    """Return turn, rank, questions and reward of one episode, as `Outcomes` has them.

    `has` are the attributes of each item, `had_by` the items of each attribute, `scores` of each
    item what this user is shown first.
    """
    candidates, asked = set(had_by[opening]), {opening}
    questions, reward = 0, 0.0
    for turn in range(1, rules.turns + 1):
        question = None
        if len(candidates) > rules.shown and turn < rules.turns:
            question = _question(has, candidates, asked)
        if question is not None:
            questions += 1
            asked.add(question)
            if question in has[target]:
                candidates &= had_by[question]
                reward += rules.accepted
            else:
                reward += rules.rejected
            continue
        shown = sorted(candidates, key=lambda item: (-scores[item], item))[: rules.shown]
        if target in shown:
            return turn, shown.index(target) + 1, questions, reward + rules.found
        if not shown:
            return 0, 0, questions, reward + rules.nothing_left
        candidates -= set(shown)
        reward += rules.not_found
    return 0, 0, questions, reward + rules.ended


def _question(has: Sequence[frozenset[int]], candidates: set[int], asked: set[int]) -> int | None:
    """Return the attribute that splits the candidates most evenly, None if none splits them."""
    counts: dict[int, int] = {}
    for item in candidates:
        for attribute in has[item]:
            if attribute not in asked:
                counts[attribute] = counts.get(attribute, 0) + 1
    size, best, found = len(candidates), len(candidates), None
    for attribute, count in counts.items():
        unevenness = abs(2 * count - size)
        if count < size and (
            unevenness < best or (unevenness == best and found is not None and attribute < found)
        ):
            best, found = unevenness, attribute
    return found

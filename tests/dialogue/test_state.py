"""Beliefs against sets: what answers and refusals leave possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.recommend.dialogue import state
from persona_agent.recommend.dialogue.state import ACCEPTED, NONE, REJECTED, UNKNOWN
from persona_agent.recommend.dialogue.table import AttributeTable

ITEMS, ATTRIBUTES = 12, 6


def random_table(seed: int = 0) -> AttributeTable:
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((ITEMS, ATTRIBUTES)) < 0.5).tolist()
    pairs += [[0, one] for one in range(ATTRIBUTES)]
    return AttributeTable.of(
        ((f"{item:02}", f"{attribute}") for item, attribute in pairs),
        items=[f"{one:02}" for one in range(ITEMS)],
    )


TABLE = random_table()
HAS = TABLE.has.toarray() > 0


def column(*values: int) -> np.ndarray:
    return np.array(values)[:, None]


said = st.lists(
    st.tuples(st.integers(0, ATTRIBUTES - 1), st.sampled_from([ACCEPTED, REJECTED, UNKNOWN])),
    max_size=8,
    unique_by=lambda one: one[0],
)


@given(st.lists(said, min_size=1, max_size=4), st.booleans())
def test_answers_leave_what_sets_leave(dialogues: list[list[tuple[int, int]]], drop: bool) -> None:
    width = max(map(len, dialogues))
    pad = [row + [(NONE, 0)] * (width - len(row)) for row in dialogues]
    beliefs = state.begin(TABLE, len(dialogues))
    for turn in range(width):
        beliefs = state.answer(
            TABLE,
            beliefs,
            column(*(row[turn][0] for row in pad)),
            column(*(row[turn][1] for row in pad)).astype(np.int8),
            drop_rejected=drop,
        )
    for row, known in enumerate(dialogues):
        left = set(range(ITEMS))
        for attribute, kind in known:
            if kind == ACCEPTED:
                left &= set(np.flatnonzero(HAS[:, attribute]))
            if kind == REJECTED and drop:
                left -= set(np.flatnonzero(HAS[:, attribute]))
        assert beliefs.possible(row).tolist() == sorted(left)
        against = [
            sum(
                (kind == ACCEPTED and not HAS[i, a]) or (kind == REJECTED and HAS[i, a])
                for a, kind in known
            )
            for i in range(ITEMS)
        ]
        assert state.mismatches(TABLE, beliefs.said)[row].tolist() == against
    assert beliefs.turn.tolist() == [width] * len(dialogues)


def test_one_answer_about_many_is_many_answers() -> None:
    at_once = state.answer(
        TABLE,
        state.begin(TABLE, 2),
        np.array([[0, 3], [2, NONE]]),
        np.array([[ACCEPTED, REJECTED], [ACCEPTED, 0]], np.int8),
        drop_rejected=True,
    )
    one_by_one = state.begin(TABLE, 2)
    for attribute, kind in ((column(0, 2), ACCEPTED), (column(3, NONE), REJECTED)):
        one_by_one = state.answer(
            TABLE, one_by_one, attribute, np.full((2, 1), kind, np.int8), drop_rejected=True
        )
    for row in range(2):
        assert at_once.possible(row).tolist() == one_by_one.possible(row).tolist()
    np.testing.assert_array_equal(at_once.answers, one_by_one.answers)


def test_a_named_attribute_opens_as_an_accepted_one() -> None:
    opened = state.open_with(TABLE, np.array([4, 1]))
    answered = state.answer(
        TABLE, state.begin(TABLE, 2), column(4, 1), np.full((2, 1), ACCEPTED, np.int8), turns=0
    )
    assert (opened.candidates != answered.candidates).nnz == 0
    np.testing.assert_array_equal(opened.answers, answered.answers)
    assert opened.turn.tolist() == answered.turn.tolist() == [0, 0]
    with pytest.raises(ValueError, match="attributes are 0 to 6; there are 6"):
        state.open_with(TABLE, np.array([0, 6]))


def test_what_was_refused_is_not_possible_and_not_forgotten() -> None:
    beliefs = state.refuse(state.begin(TABLE, 2), np.array([[3, 0], [NONE, 5]]))
    assert beliefs.sizes().tolist() == [ITEMS - 2, ITEMS - 1]
    assert beliefs.refused.toarray().nonzero()[1].tolist() == [0, 3, 5]
    assert beliefs.turn.tolist() == [1, 1]


@given(said, st.integers(0, ITEMS - 1), st.data())
def test_taking_back_is_never_having_said(
    known: list[tuple[int, int]], shown: int, data: st.DataObject
) -> None:
    taken = data.draw(st.integers(0, len(known) - 1)) if known else None
    told = [one for at, one in enumerate(known) if at != taken]

    def after(answers: list[tuple[int, int]]) -> state.Beliefs:
        beliefs = state.refuse(state.begin(TABLE), column(shown))
        for attribute, kind in answers:
            beliefs = state.answer(
                TABLE, beliefs, column(attribute), column(kind).astype(np.int8), drop_rejected=True
            )
        return beliefs

    changed = after(known)
    if taken is not None:
        changed = state.without(changed, 0, known[taken][0])
    changed = state.reconsider(TABLE, changed, drop_rejected=True)
    assert changed.possible(0).tolist() == after(told).possible(0).tolist()
    np.testing.assert_array_equal(changed.answers, after(told).answers)


def test_rows_can_be_taken_and_are_independent() -> None:
    rng = np.random.default_rng(3)
    both = state.open_with(TABLE, rng.integers(0, ATTRIBUTES, 5))
    asked = rng.integers(0, ATTRIBUTES, (5, 1))
    kinds = rng.choice([ACCEPTED, REJECTED], (5, 1)).astype(np.int8)
    together = state.answer(TABLE, both, asked, kinds)
    for row in range(5):
        alone = state.answer(TABLE, both.take(np.array([row])), asked[[row]], kinds[[row]])
        assert alone.possible(0).tolist() == together.possible(row).tolist()

"""Metrics: worked out by hand, and against a second, naive implementation."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.eval.tasks.metrics import macro_f1, measure, number, per_query, rank
from persona_agent.eval.tasks.rouge import longest_common, rouge_1, rouge_l, words
from persona_agent.task import Prediction, Task
from persona_agent.types import Interaction, Scope

STARS = Task("stars", options=("1", "2", "3", "4", "5"), numeric=True)
TAGS = Task("tag", options=("a", "b", "c"))
LABELS = st.sampled_from(["a", "b", "c", "none"])
WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat"]), max_size=7)


def truth(outcome: str, options: tuple[str, ...] = ()) -> Interaction:
    return Interaction(
        Scope("ann"), datetime(2024, 1, 1, tzinfo=UTC), "q", outcome, options=options
    )


def said(text: str, **known: object) -> Prediction:
    return Prediction(text, **known)  # type: ignore[arg-type]  # fields by name


# --- labels ---------------------------------------------------------------------------------


def test_accuracy_is_exact_but_for_space_around() -> None:
    found = measure(
        "accuracy", TAGS, [said(" a "), said("A"), said("b")], [truth("a"), truth("a"), truth("b")]
    )
    assert found == pytest.approx(2 / 3)


def test_macro_f1_counts_labels_that_are_nowhere() -> None:
    # a: tp 1, fp 0, fn 1 -> 2/3; b: tp 1, fp 1, fn 0 -> 2/3; c: nowhere -> 0
    assert macro_f1(["a", "b", "b"], ["a", "b", "a"], "abc") == pytest.approx(4 / 9)


@given(st.lists(st.tuples(LABELS, st.sampled_from("abc")), min_size=1, max_size=12))
def test_macro_f1_is_that_of_precision_and_recall(pairs: list[tuple[str, str]]) -> None:
    def f1(label: str) -> float:
        claimed = [real for guess, real in pairs if guess == label]
        due = [guess for guess, real in pairs if real == label]
        if label not in claimed:
            return 0.0
        precision, recall = claimed.count(label) / len(claimed), due.count(label) / len(due)
        return 2 * precision * recall / (precision + recall)

    guesses, real = zip(*pairs, strict=True)
    assert macro_f1(guesses, real, "abc") == pytest.approx(sum(map(f1, "abc")) / 3)


# --- ratings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "real", "taken"),
    [("4", 1, 4), (" 2 ", 5, 2), ("x", 1, 5), ("x", 2, 5), ("x", 3, 5), ("x", 4, 1), ("nan", 5, 1)],
)
def test_no_number_is_the_end_farther_from_the_truth(text: str, real: int, taken: float) -> None:
    assert number(text, real, 1, 5) == taken


def test_errors_of_ratings_by_hand() -> None:
    guesses = [said("5", expected=4.2), said("2"), said("?"), said("4", error="lost")]
    real = [truth("4"), truth("2"), truth("4"), truth("1")]
    assert per_query("mae", STARS, guesses, real) == [1, 0, 3, 4]
    assert per_query("expected_mae", STARS, guesses, real) == pytest.approx([0.2, 0, 3, 4])
    assert measure("mae", STARS, guesses, real) == 2
    assert measure("rmse", STARS, guesses, real) == pytest.approx(math.sqrt(26 / 4))


# --- texts ----------------------------------------------------------------------------------


def test_rouge_by_hand() -> None:
    assert words("The U.S. isn't 3-D") == ["the", "u", "s", "isn", "t", "3", "d"]
    found = rouge_1("police killed the gunman", "the gunman killed police")
    assert (found.precision, found.recall, found.f1) == (1, 1, 1)
    # the longest common subsequence is "the gunman", of 4 words each (Lin 2004, section 3)
    assert rouge_l("police killed the gunman", "the gunman killed police").f1 == 0.5
    assert rouge_1("the the the", "the cat").precision == pytest.approx(1 / 3)
    assert rouge_1("", "a").f1 == rouge_l("...", "...").f1 == 0


@given(WORDS, WORDS)
def test_rouge_is_that_of_a_naive_count(a: list[str], b: list[str]) -> None:
    def f1(common: int) -> float:
        return 2 * common / (len(a) + len(b)) if a and b else 0.0

    left, shared = list(b), 0
    for word in a:
        if word in left:
            left.remove(word)
            shared += 1
    assert rouge_1(" ".join(a), " ".join(b)).f1 == pytest.approx(f1(shared))
    parts = {tuple(c) for n in range(len(b) + 1) for c in combinations(b, n)}
    longest = max(n for n in range(len(a) + 1) for c in combinations(a, n) if c in parts)
    assert longest_common(a, b) == longest
    assert rouge_l(" ".join(a), " ".join(b)).f1 == pytest.approx(f1(longest))


# --- best of n ------------------------------------------------------------------------------


def test_the_place_of_the_truth_is_by_likelihood_and_the_worst_of_equals() -> None:
    options = ("a", "b", "c", "d")
    guess = Prediction("a", options, logprobs=(-1.0, -2.0, -2.0, -9.0))
    assert [rank(guess, one) for one in options] == [1, 3, 3, 4]
    assert rank(Prediction("b", options), "b") == 1
    assert rank(Prediction("b", options), "a") == 3  # 2, 3 or 4
    assert rank(Prediction("", options, error="lost"), "a") == 4
    real = [truth(one, options) for one in options]
    assert measure("hit@1", Task("best"), [guess] * 4, real) == 1 / 4
    assert measure("hit@3", Task("best"), [guess] * 4, real) == 3 / 4
    assert measure("mrr", Task("best"), [guess] * 4, real) == pytest.approx((1 + 2 / 3 + 1 / 4) / 4)


# --- wrong use ------------------------------------------------------------------------------


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no metric 'bleu'; there are accuracy, mae"):
        measure("bleu", TAGS, [said("a")], [truth("a")])
    with pytest.raises(ValueError, match="0 predictions and 0 queries"):
        measure("accuracy", TAGS, [], [])
    with pytest.raises(ValueError, match="'rmse' has no value for one query"):
        per_query("rmse", STARS, [said("1")], [truth("1")])
    with pytest.raises(ValueError, match="'tag' is not numeric"):
        measure("mae", TAGS, [said("a")], [truth("a")])

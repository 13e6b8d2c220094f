"""Verdicts on claims: by sign and corrected p, and why where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from persona_agent.eval.ablation.claims import CLAIMS, Claim, Judged, judged
from persona_agent.eval.ablation.run import Run

CLAIM = Claim("PRIME", "recent beats similar", "recent-{k}", "similar-{k}")


@pytest.fixture
def verdict(made_up: Callable[..., Run]) -> Callable[..., Judged]:
    """Give a function that judges a claim on 40 people, by the means of two arms."""

    def judge(recent: float, similar: float, noise: float = 0.1) -> Judged:
        rng = np.random.default_rng(0)
        names = [str(user) for user in range(40)]
        scores = {
            arm: {name: [float(rng.normal(level, noise))] for name in names}
            for arm, level in (("label-prior", 0.0), ("recent-8", recent), ("similar-8", similar))
        }
        return judged(made_up(scores, "label-prior"), [CLAIM])[0]

    return judge


def test_a_claim_is_supported_contradicted_or_left_open(verdict: Callable[..., Judged]) -> None:
    assert verdict(0.2, 0.0).verdict == "supported"
    assert verdict(0.0, 0.2).verdict == "contradicted"
    open_question = verdict(0.0, 0.02)
    assert open_question.verdict == "not decidable"
    assert "40 people show a difference in accuracy of 0.0" in open_question.reason


def test_arms_that_do_the_same_decide_nothing(verdict: Callable[..., Judged]) -> None:
    one = verdict(0.1, 0.1, noise=0.0)
    assert (one.verdict, one.reason) == ("not decidable", "both arms do the same for everybody")


def test_every_claim_has_a_verdict_and_what_was_not_run_says_so(
    made_up: Callable[..., Run],
) -> None:
    scores = {"label-prior": {"a": [0.0], "b": [1.0]}, "recent-4": {"a": [0.0], "b": [1.0]}}
    found = judged(made_up(scores, "label-prior"))
    assert [one.claim for one in found] == list(CLAIMS)
    assert {one.verdict for one in found} == {"not tested"}
    assert found[0].reason == "the run lacks summary and recent-8"

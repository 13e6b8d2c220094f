"""The study of the gate: its truth is the truth, its gate the real one, and the promise holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from persona_agent.cli import cli
from persona_agent.eval.gates import Crowd, Kind, cell, gate_users, simulate, study
from persona_agent.gate import Scores, judge


@pytest.mark.parametrize("kind", ["rating", "choice"])
def test_the_truth_is_what_many_ratings_come_to(kind: Kind) -> None:
    crowd = Crowd(kind, candidates=1, prevalence=1.0)
    users = simulate(crowd, 20, 20_000, 0)
    for place, drawn in enumerate((users.loglik, users.metric)):
        change = (drawn[..., 1] - drawn[..., 0]).mean(axis=2)
        np.testing.assert_allclose(change, users.truth[:, :, place], atol=0.03)


def test_what_passes_is_what_the_real_gate_lets_pass() -> None:
    users = simulate(Crowd(candidates=2), 150, 20, 1)
    chosen = gate_users(users, "likelihood", 12, 0.2, anchors=4)
    assert 0 < (chosen >= 0).sum() < 150
    for user in range(150):
        gains = []
        for one in range(2):
            old, new = (
                Scores(
                    tuple(users.metric[user, one, -12:, which].tolist()),
                    tuple(users.loglik[user, one, -12:, which].tolist()),
                )
                for which in (0, 1)
            )
            verdict = judge(old, new, tried=2, risk=0.2)
            anchors = users.metric[user, one, -16:-12] > -0.5
            lost = any(before and not after for before, after in anchors)
            gains.append(verdict.gain if verdict.accepted and not lost else -np.inf)
        best = int(np.argmax(gains)) if max(gains) > -np.inf else -1
        assert chosen[user] == best


def test_the_gate_keeps_its_promise_where_no_gate_breaks_it() -> None:
    users = simulate(Crowd(), 600, 16, 2)
    without = cell(users, "none", 12, 0.05)
    assert without.accepted == 1
    assert without.worse > 0.3
    for measure in ("likelihood", "metric"):
        gated = cell(users, measure, 12, 0.05)
        assert 0 < gated.accepted < 0.2
        assert gated.worse <= 0.05
        assert gated.worse_likelihood <= 0.05
        assert gated.gain > 0
        assert gated.worse_of_accepted < without.worse_of_accepted


def test_more_risk_and_more_ratings_accept_more() -> None:
    cells = {
        (one.measure, one.held_out, one.risk): one
        for one in study(Crowd(), users=300, held_out=(6, 24), risks=(0.05, 0.2), seed=3)
    }
    assert len(cells) == 1 + 2 * 2 * 2
    for measure in ("likelihood", "metric"):
        for held_out in (6, 24):
            few, many = cells[measure, held_out, 0.05], cells[measure, held_out, 0.2]
            assert few.accepted <= many.accepted
        assert cells[measure, 6, 0.05].accepted < cells[measure, 24, 0.05].accepted


def test_a_mood_that_passes_deceives_every_gate() -> None:
    calm = cell(simulate(Crowd(), 500, 28, 4), "likelihood", 24, 0.1)
    moody = cell(simulate(Crowd(mood=0.5), 500, 28, 4), "likelihood", 24, 0.1)
    assert moody.worse > 2 * calm.worse


def test_too_few_users_make_no_study() -> None:
    with pytest.raises(ValueError, match="users is 1"):
        study(Crowd(), users=1)


def test_the_command_prints_a_row_a_gate() -> None:
    options = ["eval", "gate", "--users", "50", "--held-out", "6", "--risk", "0.1,0.2"]
    done = CliRunner().invoke(cli, ["--json", *options])
    assert done.exit_code == 0, done.output
    cells = json.loads(done.stdout)["cells"]
    assert [(one["measure"], one["risk"]) for one in cells] == [
        ("none", 0.5), ("likelihood", 0.1), ("likelihood", 0.2), ("metric", 0.1), ("metric", 0.2)
    ]  # fmt: skip
    table = CliRunner().invoke(cli, options)
    assert "no gate" in table.stdout
    assert CliRunner().invoke(cli, ["eval", "gate", "--risk", "much"]).exit_code == 2

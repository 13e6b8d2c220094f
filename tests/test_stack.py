"""The study of stacking: its contrasts and words on made-up effects, and a small one end to end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import InputError, NotEnoughData
from persona_agent.eval.stack.contrasts import controls, registered, simple_effects
from persona_agent.eval.stack.design import Cell, Cells, Design, cells_of
from persona_agent.eval.stack.effects import BEST, Table
from persona_agent.eval.stack.report import write
from persona_agent.eval.stack.store import open_store, saved_design
from persona_agent.eval.stack.study import run_study
from persona_agent.eval.stack.verdict import Effect, verdict
from persona_agent.eval.statistics import contrast, trend

DATA = Path(os.environ.get("PERSONA_AGENT_DATA") or "nowhere")
SMALL = Design(("ml-100k",), trials=1, splits=1, epochs=1)


def world(effect: Mapping[str, float], cells: Cells = "primary", users: int = 400) -> Table:
    """Return made-up values: users differ much, cells by these effects and a little noise."""
    rng = np.random.default_rng(0)
    user = rng.uniform(0.1, 0.4, users)
    values = {}
    for cell in cells_of(cells):
        related, several = cell.relation in ("graph", "shuffled"), cell.personas > 1
        mean = effect.get("relation", 0) * related + effect.get("personas", 0) * several
        mean += effect.get("both", 0) * (related and several)
        mean -= effect.get("facts", 0) * (cell.relation == "shuffled")
        mean += effect.get(cell.likelihood, 0)
        values[cell.name] = user + mean + rng.normal(0, 0.01, users)
    values["ease"] = user + 0.01
    names = np.array([f"u{one}" for one in range(users)], object)
    return Table(names, np.repeat([0, 1], users // 2), values, {})


def found(effect: Mapping[str, float]) -> tuple[str, ...]:
    table = world(effect)
    main = {name: table.effect(table.of(one)) for name, one in registered("primary").items()}
    simple = {name: table.effect(table.of(one)) for name, one in simple_effects().items()}
    best = table.effect(table.values["graph-k4-multinomial"] - table.values["ease"])
    return verdict(main, simple, best, "graph-k4-multinomial")


@pytest.mark.parametrize("cells", ["primary", "all"])
def test_contrasts_recover_the_effects_that_were_put_in(cells: Cells) -> None:
    table = world(
        {"relation": 0.02, "personas": 0.03, "both": 0.01, "facts": 0.015, "gaussian": 0.005}, cells
    )
    means = {
        name: table.effect(table.of(one)).contrast.interval.mean
        for name, one in registered(cells).items()
    }
    assert means["relation"] == pytest.approx(0.025, abs=0.002)
    assert means["personas"] == pytest.approx(0.035, abs=0.002)
    assert means["true facts"] == pytest.approx(0.015, abs=0.003)
    assert means["relation x personas"] == pytest.approx(0.01, abs=0.003)
    assert means["multinomial - gaussian"] == pytest.approx(-0.005, abs=0.002)
    assert means["multinomial - logistic"] == pytest.approx(0, abs=0.002)
    assert means["relation x multinomial"] == pytest.approx(0, abs=0.003)
    assert len(means) == 7
    for weights in (
        *registered(cells).values(),
        *simple_effects().values(),
        *controls(cells).values(),
    ):
        assert sum(weights.values()) == pytest.approx(0)
        assert set(weights) <= set(cells_of(cells))


def test_the_verdict_says_what_the_rules_say() -> None:
    assert found({"relation": 0.02, "personas": 0.03, "facts": 0.01}) == (
        "Relations help, and it is the true facts that do.",
        "Personas help.",
        "They stack: each helps alone, and together no less than their sum.",
        "The best cell on validation, graph-k4-multinomial, beats tuned EASE.",
    )
    relation, _, stacking, _ = found({"relation": 0.02, "personas": 0.03, "both": -0.01})
    assert relation == "The graph helps, but shuffled facts are not shown to help less."
    assert stacking.startswith("They are sub-additive")
    assert "They do not stack" in found({"relation": 0.02, "personas": 0.03, "both": -0.025})[2]
    nothing = found({})
    assert nothing[0].startswith("Relations are not shown to help (an effect of 0.00")
    assert nothing[2].startswith("That they stack is not shown: not both help alone")
    assert (
        nothing[3] == "The best cell on validation, graph-k4-multinomial, is worse than tuned EASE."
    )
    assert found({"personas": -0.02})[1].startswith("Personas make it worse")


def test_a_slope_is_found_and_a_missing_one_is_not() -> None:
    rng = np.random.default_rng(1)
    varied = rng.uniform(1, 4, 500)
    rising = trend(0.02 * varied + rng.normal(0, 0.05, 500), varied)
    assert rising.interval.low < 0.02 < rising.interval.high
    assert rising.interval.low > 0
    assert rising.p < 0.01
    flat = trend(rng.normal(0, 0.05, 500), varied)
    assert flat.interval.low < 0 < flat.interval.high
    assert flat.p > 0.05
    with pytest.raises(ValueError, match="three users or more that differ"):
        trend([0.1, 0.2, 0.3], [1, 1, 1])


@pytest.mark.skipif(
    not (DATA / "movielens-latest-small").is_dir(), reason="PERSONA_AGENT_DATA names no folder"
)
@pytest.mark.real("data")
def test_a_study_runs_is_reported_and_goes_on_where_it_was(tmp_path: Path) -> None:
    told: list[str] = []
    store = run_study(SMALL, tmp_path, DATA, workers=2, on_fit=lambda one: told.append(one.last))
    due = sum(len(arm.candidates) + 1 for arm in SMALL.arms())
    assert len(told) == len(set(told)) == due == store.count()
    (finding,) = write(store, SMALL, DATA)
    report = (tmp_path / "report.md").read_text()
    assert " ".join(finding.verdict) in report
    assert all(arm.name in report for arm in SMALL.arms())
    assert set(finding.main) == set(registered("primary"))
    assert BEST in finding.other
    assert len(finding.trends) == 3
    assert finding.users == 938
    assert json.loads((tmp_path / "results.json").read_text())["findings"][0]["users"] == 938
    for name in ("arms.png", "effects.png", "entropy.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    lost = tmp_path / "fits/ml-100k/none-k1-gaussian/final-split0-seed0.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    lost.with_suffix(".json.7.tmp").write_text("{")  # a process was killed here
    with pytest.raises(NotEnoughData, match="none-k1-gaussian final-split0-seed0 is not done"):
        write(store, SMALL, DATA)
    told.clear()
    run_study(SMALL, tmp_path, DATA, on_fit=lambda one: told.append(one.last))
    assert told == ["ml-100k none-k1-gaussian final-split0-seed0"]
    assert json.loads(lost.read_text())["means"] == before["means"]
    assert saved_design(tmp_path) == SMALL


def test_studies_of_different_designs_do_not_mix(tmp_path: Path) -> None:
    open_store(tmp_path, SMALL)
    open_store(tmp_path, replace(SMALL, splits=3, seeds=2, cells="all"))  # it may grow
    assert saved_design(tmp_path).splits == 3
    with pytest.raises(InputError, match="holds a study whose trials is 1, here it is 2"):
        open_store(tmp_path, replace(SMALL, trials=2))
    with pytest.raises(InputError, match="holds no study"):
        saved_design(tmp_path / "elsewhere")
    (tmp_path / "design.json").write_text("{}")
    with pytest.raises(InputError, match="has format None"):
        saved_design(tmp_path)


def test_an_effect_tells_its_mean_in_each_split() -> None:
    table = world({"relation": 0.02})
    effect = table.effect(table.of(registered("primary")["relation"]))
    assert isinstance(effect, Effect)
    assert effect.by_split == pytest.approx((0.02, 0.02), abs=0.003)
    assert effect.contrast == contrast(table.of(registered("primary")["relation"]), table.users)
    assert Cell("graph", 4, "gaussian", 256).name == "graph-k4-gaussian-d256"

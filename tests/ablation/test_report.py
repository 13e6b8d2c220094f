"""Files, frames and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from persona_agent.cli import main
from persona_agent.eval.ablation import report, study
from persona_agent.eval.ablation.claims import CLAIMS
from persona_agent.eval.ablation.study import Ablation

Runs = Callable[..., Ablation]


def test_the_report_holds_every_arm_and_claim_with_pictures(runs: Runs, tmp_path: Path) -> None:
    found = runs("none", "recent-2", "recent-4", "similar-2", "user-item-bias")
    page = report.write(found, tmp_path).read_text()
    text = (tmp_path / "report.md").read_text()
    for name in ("label-prior", "user-item-bias", "similar-2", "recent memories beat similar ones"):
        assert name in text
        assert name in page
    assert "reference" in text
    assert len(report.claims_table(found)) == 1 + 2  # recent against similar ones, and none
    assert len(found.verdicts) == len(CLAIMS)
    for told in (text, page):
        _, _, lacking = told.partition("Not tested, for want of an arm: ")
        assert "all of it (PRIME) beats memories alone" in lacking
        assert "recent memories beat similar ones" not in lacking
    assert page.count("<svg") == 2
    assert (tmp_path / "arms.png").stat().st_size > 5000
    assert (tmp_path / "curves.png").stat().st_size > 5000
    assert not list(tmp_path.glob("*.tmp"))


def test_frames_and_files_hold_the_same(runs: Runs, tmp_path: Path) -> None:
    found = runs("none", "recent-2")
    study.keep(found, tmp_path)
    examples = pd.read_parquet(tmp_path / "examples.parquet")
    assert len(examples) == len(found.examples) == 3 * 6 * 2
    means = examples.groupby("arm")["score"].mean()
    assert found.table.set_index("arm")["expected_mae"].to_dict() == pytest.approx(
        (-means).to_dict()
    )
    assert len(pd.read_parquet(tmp_path / "spent.parquet")) == 3 * 6
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["arm"] for row in results["rows"]] == ["label-prior", "none", "recent-2"]
    assert set(found.verdicts["verdict"]) <= {
        "supported", "contradicted", "not decidable", "not tested"
    }  # fmt: skip


@pytest.mark.real("data")
@pytest.mark.real("model")
def test_the_command_runs_goes_on_and_reports(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--embedder", "hash", "eval", "ablate", "--arms", "none,recent-2", "--users", "3",
               "--queries", "1", "--out", str(tmp_path)]  # fmt: skip
    with pytest.raises(SystemExit):
        main([*command, "--budget", "2"])
    assert "budget" in capsys.readouterr().err
    main(command)
    shown = capsys.readouterr().out
    assert "label-prior" in shown
    assert "4 requests were asked anew" in shown
    main(command)
    assert "0 requests were asked anew" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


@pytest.mark.real("data")
def test_adapters_that_cannot_be_read_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "names.json").write_text('{"tft": ["ml-1"]}')
    command = ["eval", "ablate", "--arms", "lora-tft", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main([*command, "--adapters", str(tmp_path / "names.json")])
    assert "cannot be read as adapters by method and user" in capsys.readouterr().err

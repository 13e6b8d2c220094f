"""Memory tests: LoCoMo and PrefEval as questions with evidence, and the study of recall."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from persona_agent.cli import cli
from persona_agent.errors import InputError
from persona_agent.eval.choice import arms, choose
from persona_agent.eval.recall import measure
from persona_agent.eval.tasks.locomo import locomo
from persona_agent.eval.tasks.prefeval import prefeval, prefeval_choice
from persona_agent.eval.tasks.probes import ProbeSet
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder, open_embedder
from persona_agent.types import ModelRequest

Files = Any  # the namespace of the fixture `files`


def test_locomo_is_turns_in_time_order_and_questions_with_evidence(
    files: Files, tmp_path: Path
) -> None:
    found = locomo(files.locomo(tmp_path))
    assert [one.text for one in found.memories["conv-1"]] == [
        "Ann: I have a new dog, Rex. [shows a brown dog]",
        "Bob: I grow tomatoes.",
        "Ann: The train was late.",
    ]
    assert found.memories["conv-1"][0].when.isoformat() == "2023-03-01T23:00:00+00:00"
    assert [(one.kind, sorted(one.evidence)) for one in found.probes] == [
        ("single-hop", ["D1:1"]),
        ("multi-hop", ["D1:2", "D2:1"]),
        ("adversarial", ["D1:2"]),
    ]
    assert found.left_out == {
        "names no evidence": 1,
        "its evidence is not in the conversation": 1,
    }


def test_prefeval_begins_with_the_preference(files: Files, tmp_path: Path) -> None:
    found = prefeval(files.prefeval(tmp_path))
    assert list(found.memories) == ["explicit/hotel/0", "choice-based/hotel/0"]
    lived = found.memories["choice-based/hotel/0"]
    assert [one.query for one in lived] == [
        "Hotels?",
        "The inn, I avoid noisy hotels.",
        "Sort a list.",
        "Thanks, and a set?",
    ]
    assert [sorted(one.evidence) for one in found.probes] == [["t0"], ["t1"]]
    assert {one.cluster for one in found.probes} == {"hotel"}


def test_prefeval_as_a_choice_of_four(files: Files, tmp_path: Path) -> None:
    found = prefeval_choice(files.prefeval(tmp_path))
    (query,) = found.queries
    assert query.outcome == "A quiet inn."
    assert sorted(query.options) == ["A quiet inn.", "The casino.", "The club hotel.", "The party hotel."]  # fmt: skip
    assert [(one.query, one.outcome) for one in found.histories["hotel/0"]] == [
        ("", "I avoid noisy hotels."),
        ("", "Sort a list."),
        ("Use sorted.", "Thanks, and a set?"),
    ]
    assert len(prefeval_choice(tmp_path, turns=0).histories["hotel/0"]) == 1


def test_a_study_counts_what_real_memory_finds(files: Files, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = measure(
        locomo(files.locomo(tmp_path)),
        HashEmbedder(),
        ks=(1, 3),
        tell=lambda done, due: told.append((done, due)),
    )
    rows = {(row.kind, row.mode, row.k): row for row in found.rows}
    assert told == [(1, 1)]
    assert (found.users, found.questions, found.memories, found.skipped) == (1, 3, 3, 0)
    assert all(rows[kind, mode, 3].found.mean == 1 for kind, mode, k in rows if k == 3)
    # the latest turn is evidence of one of the two questions that count, and half of its evidence
    assert rows["all", "recent", 1].hit.mean == 0.5
    assert rows["all", "recent", 1].found.mean == 0.25
    assert rows["all", "recent", 1].hit.count == 2  # without the adversarial one
    assert rows["adversarial", "recent", 1].hit.mean == 0
    assert rows["single-hop", "hybrid", 1].hit.mean == 1
    gain = rows["all", "hybrid", 1].gain
    assert gain is not None
    assert gain.mean == rows["all", "hybrid", 1].hit.mean - 0.5
    assert rows["all", "recent", 1].gain is None


def test_questions_that_cannot_be_right_are_refused(files: Files, tmp_path: Path) -> None:
    found = locomo(files.locomo(tmp_path))
    with pytest.raises(ValueError, match=r"the evidence of .* is .'D7:1'.; give one or more"):
        replace(found, probes=(replace(found.probes[0], evidence=frozenset({"D7:1"})),))
    with pytest.raises(ValueError, match="not in time order"):
        replace(found, memories={"conv-1": found.memories["conv-1"][::-1]})
    with pytest.raises(ValueError, match="have an id twice"):
        replace(found, memories={"conv-1": found.memories["conv-1"][:1] * 2})
    with pytest.raises(ValueError, match="has no question"):
        ProbeSet("none", {}, (), {})
    with pytest.raises(ValueError, match="users is 0"):
        found.sample(0)
    with pytest.raises(ValueError, match="give one of each or more, once"):
        measure(found, HashEmbedder(), ks=(3, 3))


def test_files_of_another_shape_say_where(files: Files, tmp_path: Path) -> None:
    path = files.locomo(tmp_path) / "locomo" / "locomo10.json"
    read = json.loads(path.read_text())
    read[0]["conversation"]["session_1_date_time"] = "yesterday"
    files.write(path, read)
    with pytest.raises(InputError, match=r"session_1 of locomo10.json sample 0: time data"):
        locomo(tmp_path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"locomo10.json is not JSON"):
        locomo(tmp_path)
    with pytest.raises(InputError, match=r"filtered_inter_turns.json cannot be read: No such"):
        prefeval(tmp_path)


def test_the_command_prints_a_table_and_json(files: Files, tmp_path: Path) -> None:
    data = str(files.prefeval(files.locomo(tmp_path)))
    line = ["--embedder", "hash", "eval", "recall", "--data", data]
    shown = CliRunner().invoke(cli, [*line, "--mode", "hybrid", "-k", "2"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "locomo: 3 questions, 1 users with 3 turns, hash-256" in shown.stdout
    assert "1 because names no evidence" in shown.stdout
    shown = CliRunner().invoke(
        cli,
        ["--json", *line, "--dataset", "prefeval", "--users", "1", "-k", "4"],
        catch_exceptions=False,
    )
    rows = json.loads(shown.stdout)["rows"]
    assert [(row["kind"], row["mode"], row["hit"]["mean"]) for row in rows] == [
        ("all", "recent", 1),
        ("all", "similar", 1),
        ("all", "hybrid", 1),
    ]


# --- choices --------------------------------------------------------------------------------


def test_a_model_that_reads_its_memories_chooses_right_with_them_alone(
    files: Files, tmp_path: Path
) -> None:
    def quiet_if_told(request: ModelRequest) -> str:
        told = any("I avoid noisy hotels." in one.content for one in request.messages)
        return "A quiet inn." if told else "The casino."

    tasks = prefeval_choice(files.prefeval(tmp_path))
    found = choose(tasks, FakeLLM(quiet_if_told), HashEmbedder(), arms(3))
    assert [(one.arm, one.right.mean) for one in found] == [
        ("no memory", 0),
        ("recent 3", 1),
        ("similar 3", 1),
        ("hybrid 3", 1),
    ]
    assert [one.gain and one.gain.mean for one in found] == [None, 1, 1, 1]
    (first, *_) = choose(
        tasks, FakeLLM(quiet_if_told), HashEmbedder(), {"last": arms(1)["recent 1"]}
    )
    assert first.right.mean == 0  # the latest turn is about something else
    with pytest.raises(ValueError, match="k is 0; it must be at least 1"):
        arms(0)


def test_choosing_is_for_prefeval_alone(files: Files, tmp_path: Path) -> None:
    line = ["eval", "recall", "--data", str(files.locomo(tmp_path)), "--choose", "2"]
    shown = CliRunner().invoke(cli, line)
    assert shown.exit_code == 2
    assert "--choose is for --dataset prefeval" in shown.output


# --- the real thing -------------------------------------------------------------------------


@pytest.mark.real("embedder")
@pytest.mark.skipif(
    "PERSONA_AGENT_DATA" not in os.environ, reason="the folder of data is not there"
)
def test_real_questions_are_found_by_meaning_far_more_often_than_by_time() -> None:
    probes = locomo(Path(os.environ["PERSONA_AGENT_DATA"]))
    assert (len(probes.memories), len(probes.probes), sum(probes.left_out.values())) == (
        10,
        1980,
        6,
    )
    lived = probes.memories["conv-26"][:160]
    known = {one.id for one in lived}
    own = [one for one in probes.probes if one.user == "conv-26" and one.evidence <= known]
    one = replace(probes, memories={"conv-26": lived}, probes=tuple(own))
    found = measure(one, open_embedder("minilm"), ks=(10,))
    hits = {row.mode: row.hit.mean for row in found.rows if row.kind == "all"}
    assert hits["recent"] < 0.2
    assert hits["hybrid"] > 0.4

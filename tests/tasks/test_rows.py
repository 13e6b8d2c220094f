"""Anybody's own logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import InputError, NotEnoughData
from persona_agent.eval.tasks.opening import open_task
from persona_agent.eval.tasks.rows import rows

TEA = [("milk", "yes"), ("rum", "no"), ("mint", "yes"), ("salt", "no"), ("honey", "yes")]


def logs(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def day(number: int, user: str = "ann", **more: Any) -> dict[str, Any]:
    return {"user": user, "when": f"2024-05-{number:02}T10:00:00Z", **more}


def test_logs_are_cut_in_time_and_the_task_is_what_they_imply(tmp_path: Path) -> None:
    lines = [
        day(9 - at, query=f"tea with {what}", outcome=outcome)
        for at, (what, outcome) in enumerate(TEA)
    ]
    lines.append(day(20, query="what is tea?", response="A drink."))  # no outcome: left out
    found = open_task(f"rows:{logs(tmp_path / 'tea.jsonl', lines)}")
    assert found.task.options == ("no", "yes")
    assert found.metrics == ("accuracy", "macro_f1")
    assert [one.query for one in found.histories["ann"]] == [
        "tea with honey",
        "tea with salt",
        "tea with mint",
        "tea with rum",
    ]
    assert [one.query for one in found.queries] == ["tea with milk"]


def test_csv_with_ratings_choices_and_words(tmp_path: Path) -> None:
    path = tmp_path / "logs.csv"
    head = "user,when,query,outcome,options\n"
    path.write_text(
        head + "".join(f"ann,2024-05-0{n},film {n},{n % 4 + 1},\n" for n in range(1, 8))
    )
    assert rows(path).task.numeric
    assert len(rows(path).queries) == 2
    path.write_text(head + "".join(f"ann,2024-05-0{n},pick,a{n},a{n}|b\n" for n in range(1, 5)))
    assert rows(path).metrics == ("accuracy", "mrr")
    path.write_text(head + "".join(f"ann,2024-05-0{n},say,word {n},\n" for n in range(1, 5)))
    assert rows(path).metrics == ("rouge_1", "rouge_l")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            [{"user": "ann", "query": "q", "outcome": "a"}],
            "'q' in x.jsonl has no time; give 'when'",
        ),
        ([day(1, query="q", mood="fine")], "1 lines of x.jsonl cannot be read: line 1: unknown"),
        ([day(1, query="q")], "no line of x.jsonl has an outcome"),
    ],
)
def test_logs_that_cannot_be_used_say_why(
    lines: list[dict[str, Any]], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        rows(logs(tmp_path / "x.jsonl", lines))


def test_a_file_of_another_kind_or_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.txt must end with .jsonl or .csv"):
        rows(tmp_path / "x.txt")
    with pytest.raises(NotEnoughData, match="no user has 1 interactions"):
        rows(logs(tmp_path / "x.jsonl", [day(1, query="q", outcome="a")]))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        rows(tmp_path / "none.jsonl")

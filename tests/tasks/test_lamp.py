"""LaMP: official files in, task sets and official prompts out."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import InputError
from persona_agent.eval.tasks.lamp import KINDS, lamp
from persona_agent.eval.tasks.lamp_prompts import augmented, corpus_text, search_text
from persona_agent.eval.tasks.metrics import measure
from persona_agent.eval.tasks.opening import open_task
from persona_agent.task import Prediction

Files = Any  # the namespace of the fixture `files`


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_reads_its_official_files(kind: str, files: Files, tmp_path: Path) -> None:
    found = open_task(
        f"lamp-{kind}:{files.lamp(tmp_path, kind, ['2012-05-01', '2010', '2011-02'])}"
    )
    assert found.users == (f"lamp-{kind}/{kind}0", f"lamp-{kind}/{kind}1")
    history = found.histories[found.users[0]]
    assert [one.item for one in history] == ["1", "2", "0"]
    assert [one.when.year for one in history] == [2010, 2011, 2012]
    query = found.queries[0]
    assert query.when == history[-1].when + timedelta(days=1)
    assert query.outcome == files.outputs[kind]
    assert query.metadata["input"] == files.inputs[kind]
    right = [Prediction(one.outcome or "") for one in found.queries]
    wrong = [Prediction("quite something else")] * 2
    for metric in found.metrics:
        best, worst = (measure(metric, found.task, one, found.queries) for one in (right, wrong))
        assert (best < worst) if metric in ("mae", "rmse") else (best > worst), metric


@pytest.mark.parametrize(
    ("kind", "query", "outcome"),
    [
        ("2m", "a ship is lost", "a robot dreams"),
        ("2n", "by train", "a long way"),
        ("3", "it broke", "fine"),
        ("4", "a bridge opens", "it was big"),
        ("5", "we count owls", "we find nests"),
        ("7", "it rains", ""),
    ],
)
def test_a_query_looks_like_what_is_remembered(
    kind: str, query: str, outcome: str, files: Files, tmp_path: Path
) -> None:
    found = lamp(kind, files.lamp(tmp_path, kind, [None]))
    assert found.queries[0].query == query
    assert found.histories[found.users[0]][0].query == outcome


def test_a_profile_without_dates_keeps_its_order(files: Files, tmp_path: Path) -> None:
    found = lamp("3", files.lamp(tmp_path, "3", [None, None, None]))
    assert [one.item for one in found.histories[found.users[0]]] == ["0", "1", "2"]


def test_users_go_by_user_id_where_it_tells_questions_apart(files: Files, tmp_path: Path) -> None:
    path = files.lamp(tmp_path, "3", [None], questions=3) / "dev_questions.json"
    asked = json.loads(path.read_text())
    for one, owner in zip(asked, (7, 8, 8), strict=True):
        one["user_id"] = owner
    files.write(path, asked)
    assert lamp("3", path).users == ("lamp-3/7", "lamp-3/8/31", "lamp-3/8/32")


def test_rating_without_a_number_counts_as_the_farther_end(files: Files, tmp_path: Path) -> None:
    found = lamp("3", files.lamp(tmp_path, "3", [None]))  # both truths are 2
    said = [Prediction("good"), Prediction("3")]
    assert measure("mae", found.task, said, found.queries) == 2
    assert measure("rmse", found.task, said, found.queries) == pytest.approx(5**0.5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"profile": None}, "'profile' of question 0 .* is a NoneType; list is due"),
        ({"input": "no marker"}, "has no 'description:'"),
        ({"id": "else"}, "id 'else', for which there is no output"),
        ({"profile": [{"id": "0", "description": "x", "tag": "western"}]}, "'western'; LaMP lists"),
        ({"profile": [{"id": "0", "tag": "comedy"}]}, "has no 'description'; it has id, tag"),
        (
            {"profile": [{"id": "0", "description": "x", "tag": "comedy", "date": "May"}]},
            "date 'May' of profile item 0",
        ),
        (
            {"profile": [{"id": "0", "date": "2012"}, {"id": "1"}]},
            "1 of 2 profile items .* have a date; all must",
        ),
    ],
)
def test_a_file_of_another_shape_says_where_and_what(
    change: dict[str, Any], says: str, files: Files, tmp_path: Path
) -> None:
    path = files.lamp(tmp_path, "2m", [None]) / "dev_questions.json"
    asked = json.loads(path.read_text())
    asked[0].update(change)
    files.write(path, asked)
    with pytest.raises(InputError, match=says):
        lamp("2m", tmp_path)


def test_the_wrong_files_are_refused(files: Files, tmp_path: Path) -> None:
    folder = files.lamp(tmp_path / "a", "3", [None])
    with pytest.raises(InputError, match="is of task 'LaMP_3'; LaMP_2 is due"):
        lamp("2n", folder)
    with pytest.raises(InputError, match=r"it has none"):
        lamp("3", tmp_path)
    with pytest.raises(InputError, match="is no folder; name a folder or a file"):
        lamp("3", tmp_path / "answers.json")
    with pytest.raises(ValueError, match="no LaMP task '6'; there are 1, 2m"):
        lamp("6", folder)


# --- prompts --------------------------------------------------------------------------------

EXPECTED = {
    "1": 'For an author who has written the paper with the title, and "Old owls", and "Old owls" '
    '"Owls", which',
    "2m": 'the tag for the movie: "a robot dreams" is "sci-fi" , and the tag for the movie: "a '
    'robot dreams" is "sci-fi" . Which tag',
    "2n": 'the category for the article: "a long way" is "travel" , and the category for',
    "3": '4 is the score for "fine" , and 4 is the score for "fine" . What is the score',
    "4": '"Big news" is the title for "it was big" , and "Big news" is the title for "it was',
    "5": '"Nests" is a title for "we find nests" , and "Nests" is a title for "we find nests" . '
    "Following the given patterns Generate a title",
    "7": '"so hot" , and "so hot"  are written by a person. Following the given patterns Para',
}


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_those_of_lamp(kind: str, files: Files, tmp_path: Path) -> None:
    found = lamp(kind, files.lamp(tmp_path, kind, [None, None]))
    history = found.histories[found.users[0]]
    prompt = augmented(KINDS[kind], files.inputs[kind], history)
    assert prompt.startswith(EXPECTED[kind])
    assert prompt.endswith(files.inputs[kind][-40:])
    assert augmented(KINDS[kind], files.inputs[kind], ()) == files.inputs[kind]


def test_what_one_item_leaves_of_the_budget_goes_to_the_next(files: Files, tmp_path: Path) -> None:
    path = files.lamp(tmp_path, "3", [None, None], questions=1) / "dev_questions.json"
    asked = json.loads(path.read_text())
    asked[0]["profile"][0]["text"] = "short"
    asked[0]["profile"][1]["text"] = " ".join("abcdefghijklmnopqrstuvwxyz")
    files.write(path, asked)
    (history,) = lamp("3", path).histories.values()
    # 32 words less 2 of the input, 1 at the end, 2 between: 13 each, of which a clause needs 7
    # ('4 is the score for " "'); the first leaves 5 of its 6, so the second has 11
    prompt = augmented(KINDS["3"], "review: x", history, max_tokens=32)
    assert prompt == (
        '4 is the score for "short" , and 4 is the score for "a b c d e f g h i j k" . review: x'
    )
    assert augmented(KINDS["3"], "review: x", history, max_tokens=9) == "review: x"


def test_retrieval_is_by_lamps_own_texts(files: Files, tmp_path: Path) -> None:
    searched = {kind: search_text(KINDS[kind], files.inputs[kind]) for kind in KINDS}
    assert searched == {
        "1": "Mice Rain",
        "2m": "a ship is lost",
        "2n": "by train",
        "3": "it broke",
        "4": "a bridge opens",
        "5": "we count owls",
        "7": "it rains",
    }
    seen = {}
    for kind in KINDS:
        found = lamp(kind, files.lamp(tmp_path / kind, kind, [None]))
        seen[kind] = corpus_text(KINDS[kind], found.histories[found.users[0]][0])
    assert seen == {
        "1": "Old owls owls of old",
        "2m": "a robot dreams",
        "2n": "Far a long way",
        "3": "fine",
        "4": "Big news it was big",
        "5": "Nests we find nests",
        "7": "so hot",
    }
    with pytest.raises(ValueError, match="has 0 quoted titles; three are due"):
        search_text(KINDS["1"], "which?")

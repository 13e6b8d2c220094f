"""PRIME's CMV: best of up to ten replies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from persona_agent.errors import InputError, NotEnoughData
from persona_agent.eval.tasks.cmv import Keys, cmv
from persona_agent.eval.tasks.opening import open_task

Files = Any  # the namespace of the fixture `files`


def some(files: Files, folder: Path) -> Path:
    noise = [files.reply("DeltaBot", "Confirmed."), files.reply("x", "[deleted]")]
    replies = [files.reply("a", "no " * n) for n in range(1, 15)]
    right = files.reply("b", "yes because of three things", delta=True)
    also = files.reply("c", "yes too", delta=True)
    past = [
        files.post("p2", "ann", 200, [files.reply("b", "look again", delta=True)]),
        files.post("p1", "ann", 100, [files.reply("b", "nah")]),
        files.post("late", "ann", 1000, [right]),
        files.post("else", "zoe", 100, [right]),
    ]
    asked = [
        files.post("q2", "ann", 900, [right, also, *noise, *replies]),
        files.post("q1", "ann", 500, [replies[0], right, files.reply("ann", "hm")]),
        files.post("none", "ann", 700, replies),
        files.post("q3", "bob", 500, [right, replies[1]]),
    ]
    return Path(files.cmv(folder, past, asked))


def test_an_author_chooses_among_ten(files: Files, tmp_path: Path) -> None:
    folder = some(files, tmp_path)
    found = open_task(f"cmv:{folder}")
    assert [(one.scope.user, one.id) for one in found.queries] == [
        ("ann", "q1"),
        ("ann", "q2"),
        ("bob", "q3"),
    ]
    assert [one.id for one in found.histories["ann"]] == ["p1", "p2"]  # "late" is after the query
    assert [one.outcome for one in found.histories["ann"]] == ["I think so.", "look again"]
    assert found.histories["bob"] == ()
    many = found.queries[1]
    assert many.outcome == "yes because of three things"
    assert len(many.options) == 10
    assert not {"yes too", "Confirmed.", "[deleted]", "hm"} & set(many.options)
    assert set(found.queries[0].options) == {"no", "yes because of three things"}
    assert found == cmv(folder)
    assert found.metrics == ("hit@1", "hit@3", "mrr")


def test_wrong_replies_may_be_as_long_as_the_right_one(files: Files, tmp_path: Path) -> None:
    found = cmv(some(files, tmp_path), like_in_length=True)
    lengths = sorted(len(one) for one in found.queries[1].options)
    assert lengths == [14, 17, 20, 23, 26, 27, 29, 32, 35, 38]


def test_other_names_are_given_as_keys_and_unknown_ones_are_told(
    files: Files, tmp_path: Path
) -> None:
    folder = some(files, tmp_path)
    with pytest.raises(
        InputError, match=r"post 0 of history_data.json has no 'text'; it has id, a"
    ):
        cmv(folder, keys=Keys(text="text"))
    with pytest.raises(NotEnoughData, match="has a reply with 'won' and one without"):
        cmv(folder, keys=Keys(delta="won"))

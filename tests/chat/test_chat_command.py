"""The command: a conversation from a pipe, with exact words, and with the real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CUISINES = "French Italian Chinese Indian Thai".split()
ROWS = [
    f"{word} {noun},{CUISINES[at % 5]},{'cheap' if at % 2 else 'dear'},{'yes' if at % 3 else 'no'}"
    for at, (word, noun) in enumerate(
        (word, noun)
        for noun in ("House", "Garden", "Corner")
        for word in "Amber Birch Cedar Dune Ember Fern Gold Hazel Iris Jade".split()
    )
]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    path = tmp_path / "restaurants.csv"
    path.write_text("name,cuisine,price,terrace\n" + "\n".join(ROWS), encoding="utf-8")
    return path


def command(folder: Path, *arguments: str, said: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own, at home in a folder of its own."""
    code = "from persona_agent.cli import main; main()"
    given = ["--db", str(folder / "persona.db"), *arguments]
    return subprocess.run(
        [sys.executable, "-c", code, *given],
        input=said,
        capture_output=True,
        check=False,
        env={**os.environ, "HOME": str(folder), "PERSONA_AGENT_EMBEDDER": "hash"},
    )


def test_a_piped_conversation_ends_with_the_item_and_the_next_one_remembers(
    tmp_path: Path, places: Path
) -> None:
    talk = ("chat", "--domain", str(places), "--user", "ann", "--words-alone")
    record = tmp_path / "talk.txt"
    done = command(
        tmp_path,
        *talk,
        "--transcript",
        str(record),
        said="Thai, nothing dear\n\nblorp \xff\nrecommend something\nthe second one\n".encode(
            "latin-1"
        ),
    )
    out = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert out.startswith("agent> Hello! What kind of restaurant are you in the mood for?")
    assert "Noted: Thai. Noted: no dear." in out
    assert "I heard nothing." in out
    assert "(Thai, as you like)" in out
    assert "Enjoy " in out
    assert record.read_text(encoding="utf-8").count("you> ") == 5
    done = command(tmp_path, "--json", *talk, said=b"")
    (first,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert "I remember that you like Thai" in first["turn"]["say"]
    assert "do not like dear" in first["turn"]["say"]
    assert first["turn"]["state"]["awaits"] == "anything"


def test_an_unknown_domain_is_told_with_the_way_out(tmp_path: Path) -> None:
    done = command(tmp_path, "chat", "--domain", "books", "--user", "ann", said=b"")
    assert done.returncode == 1
    assert b"there is no domain 'books'; there are ml-100k, lastfm" in done.stderr


@pytest.mark.real("model")
def test_the_real_model_leads_it_from_the_first_question_to_acceptance(
    tmp_path: Path, places: Path
) -> None:
    done = command(
        tmp_path,
        "--json",
        "chat",
        "--domain",
        str(places),
        "--user",
        "ann",
        "--patience",
        "2",
        said=b"I don't know\nthat would be absolutely lovely, I always enjoy it\nyes\n"
        b"recommend something\nthe first one\n",
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    readings = [one["turn"]["reading"] for one in events if one["turn"]["reading"]]
    assert [one["by"] for one in readings].count("model") == 1
    assert all(one["problem"] is None for one in readings)
    assert events[-1]["turn"]["state"]["outcome"] == "accepted"
    assert events[-1]["learned"]["facts"]

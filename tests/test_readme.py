"""The README's code runs as it stands, and prints what it says.

A fenced block is told what to do by an HTML comment on the line before it: `<!-- not run: why -->`
leaves it out, `<!-- real: model -->` needs that part, `<!-- file: NAME -->` is the content of a
file that the commands read. A `text` block right after a `python` block is what that prints.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from persona_agent.cli import main

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"^(?:<!-- *(?P<note>.*?) *-->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TEXT = README.read_text(encoding="utf-8") if README.is_file() else ""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its content, the comment before it, what it should print."""

    line: int
    kind: str
    body: str
    note: str
    output: str | None = None


def blocks() -> list[Block]:
    found = list(BLOCK.finditer(TEXT))
    made = []
    for i, one in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        follows = after is not None and after["kind"] == "text" and not after["note"]
        printed = (
            after["body"]
            if after and follows and not TEXT[one.end() : after.start()].strip()
            else None
        )
        line = TEXT[: one.start()].count("\n") + 1
        made.append(Block(line, one["kind"], one["body"], one["note"] or "", printed))
    return made


def cases(*kinds: str) -> list[object]:
    chosen = [one for one in blocks() if one.kind in kinds and not one.note.startswith("not run")]
    return [
        pytest.param(
            one,
            id=f"line {one.line}",
            marks=[
                pytest.mark.real(part)
                for part in one.note.removeprefix("real:").split()
                if one.note.startswith("real:")
            ],
        )
        for one in chosen
    ]


def test_the_readme_shows_code_and_says_why_where_it_is_not_run() -> None:
    assert sum(one.kind == "python" for one in blocks()) >= 2
    assert any(one.kind == "console" for one in blocks())
    for one in blocks():
        if one.note:
            assert re.fullmatch(r"not run: .{10,}|real: [a-z ]+|file: [\w.]+", one.note), one.line


def test_the_first_example_is_short_runs_offline_and_shows_what_it_prints() -> None:
    first = next(one for one in blocks() if one.kind == "python")
    assert len(first.body.strip().splitlines()) <= 12
    assert not first.note
    assert first.output


@pytest.mark.parametrize("block", cases("python"))
def test_python_runs_as_it_stands_and_prints_what_it_says(tmp_path: Path, block: Block) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.body],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert done.stdout == block.output


@pytest.mark.parametrize("block", cases("console", "bash"))
def test_commands_run_one_after_the_other(
    tmp_path: Path,
    block: Block,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in blocks():
        if one.note.startswith("file:"):
            (tmp_path / one.note.removeprefix("file:").strip()).write_text(one.body)
    lines = [line.removeprefix("$ ") for line in block.body.splitlines()]
    commands = [line for line in lines if line.startswith("persona-agent ")]
    assert commands
    for command in commands:
        main(shlex.split(command)[1:])  # raises SystemExit where it fails
    shown = capsys.readouterr()
    assert shown.out
    assert not shown.err

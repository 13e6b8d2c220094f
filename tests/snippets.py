"""Fenced blocks of Markdown pages, so that tests run what the pages show.

A fenced block is told what to do by an HTML comment on the line before it: `<!-- not run: why -->`
leaves it out, `<!-- real: model -->` needs that part, `<!-- file: NAME -->` is the content of a
file that the commands read. A `text` block right after a `python` block is what that prints.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from persona_agent.cli import main

BLOCK = re.compile(
    r"^(?:<!-- *(?P<note>.*?) *-->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOTE = re.compile(r"not run: .{10,}|real: [a-z ]+|file: [\w.]+")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its content, the comment before it, what it should print."""

    page: str
    line: int
    kind: str
    body: str
    note: str
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order; none if there is no such page."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    found = list(BLOCK.finditer(text))
    made = []
    for i, one in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        follows = after is not None and after["kind"] == "text" and not after["note"]
        printed = (
            after["body"]
            if after and follows and not text[one.end() : after.start()].strip()
            else None
        )
        line = text[: one.start()].count("\n") + 1
        made.append(Block(page.name, line, one["kind"], one["body"], one["note"] or "", printed))
    return made


def cases(found: Sequence[Block], *kinds: str) -> list[object]:
    """Return the blocks to run as parameters of a test, marked with the real parts they need."""
    chosen = [one for one in found if one.kind in kinds and not one.note.startswith("not run")]
    return [
        pytest.param(
            one,
            id=f"{one.page} line {one.line}",
            marks=[
                pytest.mark.real(part)
                for part in one.note.removeprefix("real:").split()
                if one.note.startswith("real:")
            ],
        )
        for one in chosen
    ]


def write_files(found: Sequence[Block], folder: Path) -> None:
    """Write the files that a page shows."""
    for one in found:
        if one.note.startswith("file:"):
            (folder / one.note.removeprefix("file:").strip()).write_text(one.body)


def run_python(
    block: Block,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    strict: bool = True,
) -> None:
    """Run a block as a program of its own, and compare what it prints with what the page says.

    `strict` makes warnings errors; other people's libraries do not stand that.
    """
    done = subprocess.run(
        [sys.executable, *(["-W", "error"] if strict else []), "-c", block.body],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=None if environ is None else dict(environ),
    )
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert done.stdout == block.output


def run_commands(block: Block) -> None:
    """Run a block's commands of ours one after the other, here; SystemExit where one fails."""
    lines = [line.removeprefix("$ ") for line in block.body.splitlines()]
    commands = [line for line in lines if line.startswith("persona-agent ")]
    assert commands
    for command in commands:
        main(shlex.split(command)[1:])

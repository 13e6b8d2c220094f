"""The README's code runs as it stands, and prints what it says; see `snippets`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snippets import NOTE, Block, blocks, cases, run_commands, run_python, write_files

BLOCKS = blocks(Path(__file__).parent.parent / "README.md")


def test_the_readme_shows_code_and_says_why_where_it_is_not_run() -> None:
    assert sum(one.kind == "python" for one in BLOCKS) >= 2
    assert any(one.kind == "console" for one in BLOCKS)
    for one in BLOCKS:
        if one.note:
            assert NOTE.fullmatch(one.note), one.line


def test_the_first_example_is_short_runs_offline_and_shows_what_it_prints() -> None:
    first = next(one for one in BLOCKS if one.kind == "python")
    assert len(first.body.strip().splitlines()) <= 12
    assert not first.note
    assert first.output


@pytest.mark.parametrize("block", cases(BLOCKS, "python"))
def test_python_runs_as_it_stands_and_prints_what_it_says(tmp_path: Path, block: Block) -> None:
    run_python(block, tmp_path)


@pytest.mark.parametrize("block", cases(BLOCKS, "console", "bash"))
def test_commands_run_one_after_the_other(
    tmp_path: Path,
    block: Block,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(BLOCKS, tmp_path)
    run_commands(block)
    shown = capsys.readouterr()
    assert shown.out
    assert not shown.err

"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona_agent.files import replacing, write_whole


def test_a_file_is_replaced_by_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    write_whole(path, "für Ann")
    assert path.read_bytes() == "für Ann".encode()
    with replacing(path) as beside, beside.open("wb") as out:
        out.write(b"new")
        assert path.read_text(encoding="utf-8") == "für Ann"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError), replacing(path) as beside:
        beside.write_bytes([b"half"])  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No such file"), replacing(path):
        pass  # nothing was written
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    path.mkdir()
    with pytest.raises(OSError, match=r"told\.json"):
        write_whole(path, b"new")
    assert list(tmp_path.iterdir()) == [path]

"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file beside this one, which takes its place at the end of the block.

    What was written to it is on the disk then. After an error the old file is as it was, and no
    other is left. A process that is killed may leave one that ends in `.tmp`.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        to_disk(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing; text is UTF-8."""
    with replacing(path) as beside:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)


def to_disk(path: Path) -> None:
    """Wait until a file is on the disk, or a folder: the names in it."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

"""Entries on the disk in files of bounded size, each deleted when what it holds is elsewhere.

A process writes its own files and holds a lock as long as it lives: the files of a lock that
nobody holds are those of a process that ended, and whoever gets the lock has them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

from persona_agent.closing import Closing
from persona_agent.files import to_disk
from persona_agent.types import Json

Entry: TypeAlias = Mapping[str, Json]

LOCK = ".lock"
SUFFIX = ".turns"
MOST_BYTES = 1 << 20  # of a file; one with a single long entry is longer
log = logging.getLogger("persona_agent.serve")


@dataclass(slots=True)
class _File:
    """One file: what was written to it, and how far it was taken out."""

    path: Path
    size: int = 0  # bytes
    start: int = 0
    lines: int = 0  # after `start`


class Segments(Closing):
    """The files of one process: entries go in at the end, and out at the beginning.

    One thread may `append` while another reads and drops. Entries that were read and not dropped
    are read again. `close` gives up the lock, and what is still there is the next one's.
    """

    def __init__(self, lock_path: Path, lock: int, *, sync: bool) -> None:
        """Use `begin` or `take_over`: `lock` is the open file that is locked."""
        self._lock_path = lock_path
        self._held = lock
        self._sync = sync
        self._files: deque[_File] = deque()
        self._writing: int | None = None  # the last file, if this process began it
        self._number = 0
        self._read: tuple[int, int] = 0, 0  # bytes and lines of the first file, read last
        self._lock = threading.Lock()
        self.written = self.dropped = 0  # entries

    @classmethod
    def begin(cls, folder: Path, *, sync: bool = True) -> Self:
        """Begin files of one's own in a folder; `sync` waits for the disk at each `append`."""
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        unseen = folder / f"{name}.new"
        lock = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock_path = folder / f"{name}{LOCK}"
        unseen.rename(lock_path)  # nobody sees it without its lock
        return cls(lock_path, lock, sync=sync)

    @classmethod
    def take_over(cls, folder: Path) -> Iterator[Self]:
        """Yield the files of processes that ended, now locked by this one, the oldest first.

        Raises OSError if some cannot be read; their lock is given up.
        """
        for lock_path in sorted(folder.glob(f"*{LOCK}"), key=_age):
            try:
                lock = os.open(lock_path, os.O_RDWR)
            except FileNotFoundError:
                continue  # another process was faster
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue  # its process lives
            left = cls(lock_path, lock, sync=False)
            try:
                left._find()
            except OSError:
                os.close(lock)
                raise
            yield left

    @property
    def waiting(self) -> int:
        """How many entries are in the files."""
        return self.written - self.dropped

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, all or none; raises OSError."""
        lines = "".join(json.dumps(dict(one)) + "\n" for one in entries).encode()
        with self._lock:
            file = self._writing
            if file is None or self._files[-1].size >= MOST_BYTES:
                file = self._add_file()
            last = self._files[-1]
            try:
                written = 0
                while written < len(lines):
                    written += os.write(file, lines[written:])
                if self._sync:
                    os.fdatasync(file)
            except OSError:
                os.ftruncate(file, last.size)  # half a line would hide the next
                raise
            last.size += len(lines)
            last.lines += len(entries)
            self.written += len(entries)

    def read(self, most: int) -> list[Entry]:
        """Return the first entries, at most so many; none if there are none.

        Lines that are none, such as one that a dying process wrote half of and never acknowledged,
        are left out: `drop` until `waiting` is 0, not until nothing is read.
        """
        with self._lock:
            if not self._files:
                return []
            first = self._files[0]
            path, start, lines = first.path, first.start, min(most, first.lines)
        found = []
        at = start
        with path.open("rb") as file:
            file.seek(start)
            for _ in range(lines):
                line = file.readline()
                at += len(line)
                entry = _entry(line)
                if entry is not None:
                    found.append(entry)
                else:
                    told = {"file": path.name, "bytes": len(line)}
                    log.warning("a line of the journal holds no turn", extra=told)
        self._read = at - start, lines
        return found

    def drop(self) -> None:
        """Let go of what was read last: it is elsewhere now."""
        size, lines = self._read
        self._read = 0, 0
        with self._lock:
            if not self._files:
                return
            first = self._files[0]
            first.start += size
            first.lines -= lines
            self.dropped += lines
            if first.lines:
                return
            if len(self._files) == 1 and self._writing is not None:
                os.ftruncate(self._writing, 0)
                first.size = first.start = 0
            else:
                first.path.unlink(missing_ok=True)
                self._files.popleft()

    def close(self) -> None:
        """Give up the lock, and delete the files if nothing is in them.

        Raises OSError if they cannot be deleted; the lock is given up all the same.
        """
        with self._lock:
            if self._writing is not None:
                os.close(self._writing)
                self._writing = None
            try:
                if not self.waiting:
                    for file in self._files:
                        file.path.unlink(missing_ok=True)
                    self._lock_path.unlink(missing_ok=True)
            finally:
                os.close(self._held)

    def _add_file(self) -> int:
        path = self._lock_path.with_name(f"{self._lock_path.stem}.{self._number:06}{SUFFIX}")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if self._writing is not None:
            os.close(self._writing)
        self._writing = file
        self._number += 1
        self._files.append(_File(path))
        if self._sync:
            to_disk(path.parent)
        return file

    def _find(self) -> None:
        """Find the files that there are."""
        for path in sorted(self._lock_path.parent.glob(f"{self._lock_path.stem}.*{SUFFIX}")):
            with path.open("rb") as file:
                lines = sum(1 for _ in file)
            if lines:
                self._files.append(_File(path, path.stat().st_size, 0, lines))
            else:
                path.unlink(missing_ok=True)
            self.written += lines


def entries_in(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file, but for a line that is being written; none if it is gone."""
    try:
        with path.open("rb") as file:
            for line in file:
                entry = _entry(line)
                if entry is not None:
                    yield entry
    except FileNotFoundError:
        return  # another process is done with it


def _entry(line: bytes) -> Entry | None:
    """Return the entry of a line, or None if it holds none."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _age(path: Path) -> float:
    """Return when a lock was made, or 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0

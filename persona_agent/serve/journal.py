"""The journal: turns on the disk before they are in the store, so that none is lost.

A turn is a line in this process's own file, on the disk before the answer ends; a thread puts
lines into the store, and empties the file when all are there. What a process that died left
behind is put into the store by the next that looks. A line has a fixed id, so doing it twice is
doing it once.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

from persona_agent.closing import Closing
from persona_agent.errors import StoreError
from persona_agent.serve.gather import hand
from persona_agent.types import Json, Record

Entry: TypeAlias = Mapping[str, Json]

SUFFIX = ".turns"
REJECTED = "rejected.jsonl"
MOST = 256  # entries in one write, about
GATHER_S = 0.3  # turns of the same moment share one transaction and one call of the embedder
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
log = logging.getLogger("persona_agent.serve")


@dataclass(frozen=True, slots=True)
class _Lines(Record):
    """Where entries are in the file, in bytes, and how many they are."""

    start: int
    length: int
    count: int


class Journal(Closing):
    """One process's journal in a folder that several share.

    `apply` puts entries into the store. While it raises, such as StoreError, the entries wait, on
    the disk. It returns those that can never be stored: they go to a file of their own. `tell` is
    told how many wait, whenever that changes.
    """

    def __init__(
        self,
        folder: Path,
        apply: Callable[[Sequence[Entry]], Sequence[Entry]],
        *,
        sync: bool = True,
        tell: Callable[[int], None] = lambda waiting: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._apply = apply
        self._sync = sync
        self._tell = tell
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # held as long as this process lives
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._written = self._applied = 0
        self._closing = threading.Event()
        self._incoming: SimpleQueue[tuple[Entry, Future[None]] | None] = SimpleQueue()
        self._durable: SimpleQueue[_Lines | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write, name="journal-write", daemon=True),
            threading.Thread(target=self._store, name="journal-store", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many entries are on the disk and not in the store."""
        with self._lock:
            return self._written - self._applied

    def put(self, entry: Entry) -> Future[None]:
        """Take in an entry; the future is done when it is on the disk, or raises OSError."""
        future: Future[None] = Future()
        self._incoming.put((entry, future))
        return future

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was put is in the store; false if that took too long."""
        marker: Future[None] = Future()
        self._incoming.put(({}, marker))  # what was put before is written when this is
        try:
            marker.result(timeout_s)
        except TimeoutError:
            return False
        with self._idle:
            return self._idle.wait_for(lambda: self._written == self._applied, timeout_s)

    def adopt(self) -> int:
        """Put into the store what processes that died left; return how many entries.

        Raises StoreError if the store does not take them: they stay where they are.
        """
        count = 0
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path == self._path:
                continue
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue  # another process was faster
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue  # its process lives
            try:
                entries = list(_read(path))
                for first in range(0, len(entries), MOST):
                    self._put_in(entries[first : first + MOST])
                count += len(entries)
                path.unlink(missing_ok=True)
            finally:
                os.close(file)
        return count

    def close(self, timeout_s: float = 20.0) -> None:
        """Put what there is into the store, as far as that goes in time; the rest stays on disk.

        A batch under way is waited for as long again: a process that ends while a thread embeds
        would be aborted.
        """
        if self._closing.is_set():
            return
        self.drain(timeout_s)
        self._closing.set()
        self._incoming.put(None)
        for thread in self._threads:
            thread.join(timeout_s)
        if any(thread.is_alive() for thread in self._threads):
            log.warning("turns are still being stored; the next process goes on with them")
            return  # the file is theirs until the process ends
        os.close(self._file)
        if self.waiting == 0:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Write what comes, many entries at once, and hand it on."""
        ends = False
        while not ends:
            taken = [self._incoming.get()]
            while len(taken) < MOST and not self._incoming.empty():
                taken.append(self._incoming.get())
            ends = None in taken
            batch = [one for one in taken if one is not None]
            entries = [entry for entry, _ in batch if entry]
            try:
                if entries:
                    self._durable.put(self._append(entries))
            except OSError as error:
                for _, future in batch:
                    hand(future, error)
                continue
            for _, future in batch:
                hand(future, None)
        self._durable.put(None)

    def _append(self, entries: Sequence[Entry]) -> _Lines:
        lines = "".join(json.dumps(dict(one)) + "\n" for one in entries).encode()
        with self._lock:
            end = os.fstat(self._file).st_size
            try:
                written = 0
                while written < len(lines):
                    written += os.write(self._file, lines[written:])
                if self._sync:
                    os.fdatasync(self._file)
            except OSError:
                os.ftruncate(self._file, end)  # half a line would hide the next
                raise
            self._written += len(entries)
            self._tell(self._written - self._applied)
        return _Lines(end, len(lines), len(entries))

    def _store(self) -> None:
        """Put what is written into the store, until there is no time left for more."""
        while (lines := self._durable.get()) is not None:
            if self._closing.wait(GATHER_S):
                return  # they stay on the disk, for the next process
            more = [lines]
            try:
                while sum(one.count for one in more) < MOST:
                    following = self._durable.get_nowait()
                    if following is None:
                        self._durable.put(None)
                        break
                    more.append(following)
            except Empty:
                pass  # nothing else waits
            pause = FIRST_PAUSE_S
            while True:
                try:
                    self._put_in([entry for one in more for entry in self._read_back(one)])
                    break
                except Exception as error:  # whatever it is, they must not be lost
                    if not isinstance(error, StoreError):
                        log.exception("turns could not be stored; they are tried again")
                    if self._closing.wait(pause):
                        return  # they stay on the disk, for the next process
                    pause = min(2 * pause, LONGEST_PAUSE_S)
            with self._idle:
                self._applied += sum(one.count for one in more)
                self._tell(self._written - self._applied)
                if self._applied == self._written:
                    os.ftruncate(self._file, 0)
                self._idle.notify_all()

    def _read_back(self, lines: _Lines) -> list[Entry]:
        """Return entries from the file: what waits takes no memory, however long it waits."""
        text = os.pread(self._file, lines.length, lines.start).decode()
        return [json.loads(line) for line in text.splitlines()]

    def _put_in(self, entries: Sequence[Entry]) -> None:
        refused = self._apply(entries) if entries else ()
        if refused:
            with (self.folder / REJECTED).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(dict(one)) + "\n" for one in refused)


def _read(path: Path) -> list[Entry]:
    """Return the entries of a file; a last line that was cut off was never acknowledged."""
    found: list[Entry] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found

"""The journal: turns on the disk before they are in the store, so that none is lost.

A turn is on the disk before the answer ends; a thread puts turns into the store, its own and those
that processes which died left behind. A turn has a fixed id, so doing it twice is doing it once.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

from persona_agent.closing import Closing
from persona_agent.errors import StoreError
from persona_agent.files import to_disk
from persona_agent.serve.gather import hand
from persona_agent.serve.segments import SUFFIX, Entry, Segments, entries_in

REJECTED = "rejected.jsonl"
MOST = 256  # entries in one write, or in one transaction
GATHER_S = 0.3  # turns of the same moment share one transaction and one call of the embedder
LOOK_S = 60.0  # between two looks for what the dead left
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
log = logging.getLogger("persona_agent.serve")


class Journal(Closing):
    """One process's journal in a folder that several share.

    `apply` puts entries into the store. While it raises, such as StoreError, the entries wait, on
    the disk. It returns those that can never be stored: they go to a file of their own. `tell` is
    told how many wait, whenever that changes. What processes that died left is taken over now and
    every `look_s` seconds, and stored in turns with what comes.
    """

    def __init__(
        self,
        folder: Path,
        apply: Callable[[Sequence[Entry]], Sequence[Entry]],
        *,
        sync: bool = True,
        tell: Callable[[int], None] = lambda waiting: None,
        look_s: float = LOOK_S,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._apply = apply
        self._tell = tell
        self._telling = threading.Lock()
        self._look_s = look_s
        self._own = Segments.begin(folder, sync=sync)
        self._left: deque[Segments] = deque()  # of the dead
        self._stored = threading.Condition()
        self._closing = threading.Event()
        self._work = threading.Event()  # there may be something to store, or an end
        self._incoming: SimpleQueue[tuple[Entry, Future[None]] | None] = SimpleQueue()
        self._look()
        self._threads = [
            threading.Thread(target=self._write, name="journal-write", daemon=True),
            threading.Thread(target=self._store, name="journal-store", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many entries are on the disk and not in the store, as far as this process knows."""
        return self._own.waiting + sum(one.waiting for one in tuple(self._left))

    def put(self, entry: Entry) -> Future[None]:
        """Take in an entry; the future is done when it is on the disk, or raises OSError."""
        future: Future[None] = Future()
        self._incoming.put((entry, future))
        return future

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was put before is in the store; false if that took too long.

        What the dead left is not waited for.
        """
        marker: Future[None] = Future()
        self._incoming.put(({}, marker))  # what was put before is written when this is
        try:
            marker.result(timeout_s)
        except TimeoutError:
            return False
        written = self._own.written
        with self._stored:
            return self._stored.wait_for(lambda: self._own.dropped >= written, timeout_s)

    def count(self, wanted: Callable[[Entry], bool]) -> tuple[int, int]:
        """Count entries of all processes on the disk: those that wait, and those set aside."""
        waiting = (one for path in self.folder.glob(f"*{SUFFIX}") for one in entries_in(path))
        aside = entries_in(self.folder / REJECTED)
        return sum(map(wanted, waiting)), sum(map(wanted, aside))

    def close(self, timeout_s: float = 20.0) -> None:
        """Put what there is into the store, as far as that goes in time; the rest stays on disk.

        A batch under way is waited for as long again: a process that ends while a thread embeds
        would be aborted.
        """
        if self._closing.is_set():
            return
        self.drain(timeout_s)
        self._closing.set()
        self._work.set()
        self._incoming.put(None)
        for thread in self._threads:
            thread.join(timeout_s)
        if any(thread.is_alive() for thread in self._threads):
            log.warning("turns are still being stored; the next process goes on with them")
            return  # the files are theirs until the process ends
        for segments in (self._own, *self._left):
            _let_go(segments)

    def _write(self) -> None:
        """Write what comes, many entries at once."""
        ends = False
        while not ends:
            taken = [self._incoming.get()]
            while len(taken) < MOST and not self._incoming.empty():
                taken.append(self._incoming.get())
            ends = None in taken
            batch = [one for one in taken if one is not None]
            entries = [entry for entry, _ in batch if entry]
            failed = None
            try:
                if entries:
                    self._own.append(entries)
                    self._told()
                    self._work.set()
            except OSError as error:
                failed = error
            for _, future in batch:
                hand(future, failed)

    def _store(self) -> None:
        """Put what is written into the store, until there is no time left for more."""
        looked = time.monotonic()
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            if time.monotonic() - looked >= self._look_s:
                looked = time.monotonic()
                self._look()
            if not self.waiting:
                self._work.wait(self._look_s)
                self._work.clear()
                continue
            if self.waiting < MOST and self._closing.wait(GATHER_S):
                return  # they stay on the disk, for the next process
            if self._left and not (self._store_some(self._left[0]) and self._left[0].waiting):
                _let_go(self._left.popleft())  # done, or to be looked at again later
            if self._store_some(self._own):
                pause = FIRST_PAUSE_S
            else:
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            self._told()
            with self._stored:
                self._stored.notify_all()

    def _store_some(self, segments: Segments) -> bool:
        """Put the first entries of some files into the store; false if that does not work now."""
        try:
            self._put_in(segments.read(MOST))
            segments.drop()
        except StoreError:
            return False
        except Exception:  # whatever it is, they must not be lost
            log.exception("turns could not be stored; they are tried again")
            return False
        return True

    def _look(self) -> None:
        """Take over what processes that died left."""
        known = len(self._left)
        try:
            for segments in Segments.take_over(self.folder):
                self._left.append(segments)
        except OSError as error:
            log.warning("turns of others cannot be read", extra={"reason": str(error)})
        count = sum(one.waiting for one in list(self._left)[known:])
        if count:
            log.info("turns of processes that ended will be stored", extra={"count": count})
            self._told()

    def _told(self) -> None:
        """Tell how many wait: whoever changed it last tells last."""
        with self._telling:
            self._tell(self.waiting)

    def _put_in(self, entries: Sequence[Entry]) -> None:
        refused = self._apply(entries) if entries else ()
        if refused:
            with (self.folder / REJECTED).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(dict(one)) + "\n" for one in refused)
            to_disk(self.folder / REJECTED)  # it is the only place where they are now


def _let_go(segments: Segments) -> None:
    try:
        segments.close()
    except OSError as error:
        reason = {"reason": str(error)}
        log.warning("stored turns cannot be deleted; they are stored once more later", extra=reason)

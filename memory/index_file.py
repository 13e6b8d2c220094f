"""The index on disk: what a reopened process warms from, instead of asking the store.

One file, written whole beside the database and renamed into place, so that there is always an old
one or a new one and never half of one. Each user's part carries its own checksum and the head of
the store that it was taken at: a part that is damaged is not used, one that is behind catches up
from the store. The file may be removed at any time. It holds ids and vectors, no texts.

Layout: MAGIC, the parts, the directory (JSON), its place, length and checksum, MAGIC.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from persona_agent.errors import StoreError
from persona_agent.files import replacing
from persona_agent.memory.rows import Owner
from persona_agent.memory.snapshot import Head, Place
from persona_agent.types import FloatArray

MAGIC = b"PAINDEX1"
TAIL = struct.Struct("<QQ32s8s")
DIGEST = 16


@dataclass(frozen=True, slots=True)
class Part:
    """One user's index: the head it was taken at, the order of events, their vectors.

    `vectors`, of shape (n, dim), has a row an event; those not `present` mean nothing. None if no
    search has asked for vectors yet.
    """

    head: Head
    places: list[Place]
    present: npt.NDArray[np.bool_] | None
    vectors: FloatArray | None


class _Entry(TypedDict):
    """Where a user's part is in the file, what it must be, and the head it was taken at."""

    owner: list[str]
    epoch: int
    seq: int
    count: int
    at: int
    size: int
    digest: str


class _Directory(TypedDict):
    """Whose vectors the file holds, and its parts."""

    embedder: str
    parts: list[_Entry]


class IndexFile:
    """A file of parts, open for reading; or no file, with no parts. Safe from many threads."""

    def __init__(self, path: Path, embedder: str) -> None:
        """Read the directory of the file at `path`, if there is one that is whole and of `embedder`."""
        self.path = path
        self._embedder = embedder
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._parts: dict[Owner, _Entry] = {}
        self.problem = ""
        self._open()

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._parts

    def __len__(self) -> int:
        """Return the number of users in the file."""
        return len(self._parts)

    @property
    def heads(self) -> dict[Owner, Head]:
        """The users in the file, and the head that each was taken at."""
        with self._lock:
            return {
                owner: Head(one["epoch"], one["seq"], one["count"])
                for owner, one in self._parts.items()
            }

    def read(self, owner: Owner) -> Part | None:
        """Return a user's part; None if there is none, or it is damaged: see `problem`."""
        with self._lock:
            entry = self._parts.get(owner)
            if entry is None or self._descriptor is None:
                return None
            raw = _read(self._descriptor, entry["size"], entry["at"])
            if len(raw) != entry["size"] or _digest(raw) != entry["digest"]:
                self.problem = f"the part of user {owner[1]!r} in {self.path} is damaged"
                del self._parts[owner]
                return None
        return _unpack(raw, Head(entry["epoch"], entry["seq"], entry["count"]))

    def write(self, parts: Iterable[tuple[Owner, Part]]) -> int:
        """Replace the file by one with these parts, atomically; return the bytes written.

        Raises StoreError if the disk refuses; the old file is as it was then.
        """
        try:
            with replacing(self.path) as fresh, open(fresh, "wb", opener=_private) as out:
                out.write(MAGIC)
                entries = []
                for owner, part in parts:
                    raw = _pack(part)
                    entries.append(
                        {
                            "owner": owner,
                            "epoch": part.head.epoch,
                            "seq": part.head.next_seq,
                            "count": part.head.event_count,
                            "at": out.tell(),
                            "size": len(raw),
                            "digest": _digest(raw),
                        }
                    )
                    out.write(raw)
                directory = json.dumps({"embedder": self._embedder, "parts": entries}).encode()
                at = out.tell()
                out.write(directory)
                out.write(TAIL.pack(at, len(directory), _sum(directory), MAGIC))
                written = out.tell()
        except OSError as error:
            raise StoreError(
                f"the index cannot be saved to {self.path}: {error.strerror}; make room or choose "
                "another folder. Nothing is lost: it is a cache"
            ) from error
        self.close()
        self._open()
        return written

    def remove(self) -> None:
        """Remove the file, if it is there, and forget what was in it."""
        self.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be removed: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; nothing is found in it any more."""
        with self._lock:
            self._parts = {}
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return
        except OSError as error:
            self.problem = f"{self.path} cannot be read: {error.strerror}"
            return
        directory = _directory(descriptor)
        if directory is None or directory["embedder"] != self._embedder:
            what = "is damaged" if directory is None else f"is of embedder {directory['embedder']}"
            self.problem = f"{self.path} {what}; it is not used and will be replaced when saved"
            os.close(descriptor)
            return
        with self._lock:
            self._descriptor = descriptor
            self._parts = {(one["owner"][0], one["owner"][1]): one for one in directory["parts"]}


def index_path(database: str | os.PathLike[str]) -> Path:
    """Return where the index of a database file is saved."""
    return Path(f"{os.fspath(database)}.index")


def _directory(descriptor: int) -> _Directory | None:
    """Return the directory of an open file; None if the file is not whole."""
    size = os.fstat(descriptor).st_size
    if size < len(MAGIC) + TAIL.size:
        return None
    at, length, digest, magic = TAIL.unpack(_read(descriptor, TAIL.size, size - TAIL.size))
    if magic != MAGIC or _read(descriptor, len(MAGIC), 0) != MAGIC:
        return None
    if at + length + TAIL.size != size:
        return None
    raw = _read(descriptor, length, at)
    if _sum(raw) != digest:
        return None
    directory: _Directory = json.loads(raw)
    return directory


def _pack(part: Part) -> bytes:
    places = json.dumps([list(place) for place in part.places]).encode()
    present, vectors = b"", b""
    dim = -1
    if part.vectors is not None and part.present is not None:
        dim = part.vectors.shape[1]
        present = part.present.tobytes()
        vectors = np.ascontiguousarray(part.vectors, "<f4").tobytes()
    sizes = struct.pack("<QQq", len(part.places), len(places), dim)
    return sizes + places + present + vectors


def _unpack(raw: bytes, head: Head) -> Part:
    count, length, dim = struct.unpack_from("<QQq", raw)
    at = struct.calcsize("<QQq")
    places = [Place(*place) for place in json.loads(raw[at : at + length])]
    if dim < 0:
        return Part(head, places, None, None)
    present = np.frombuffer(raw, np.bool_, count, at + length).copy()
    flat = np.frombuffer(raw, "<f4", count * dim, at + length + count)
    return Part(head, places, present, flat.reshape(count, dim))


def _read(descriptor: int, size: int, at: int) -> bytes:
    """Return up to `size` bytes; one call may give less than there is."""
    pieces = []
    while size and (piece := os.pread(descriptor, min(size, 1 << 28), at)):
        pieces.append(piece)
        size -= len(piece)
        at += len(piece)
    return b"".join(pieces)


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=DIGEST).hexdigest()


def _sum(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=32).digest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

"""Adapters on disk: a folder each, there as a whole or not at all, and gone when its row is.

A folder is written aside, brought to the disk, and renamed in the transaction that makes its row
ready. `sweep` removes the files of what the store says is no more.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, delete, select

from persona_agent.errors import StoreError
from persona_agent.files import to_disk
from persona_agent.memory.adapter_rows import READY, Adapter, discard, finish, touching
from persona_agent.memory.failpoint import failpoint
from persona_agent.memory.rows import owner_of
from persona_agent.memory.schema import adapters, leftovers
from persona_agent.memory.store import Store
from persona_agent.types import Scope

SUFFIX = ".adapters"
MAKING = ".making"
WEIGHTS = "adapter_model.safetensors"


def adapters_path(database: Path) -> Path:
    """Return where the adapters of a SQLite file are: beside it."""
    return database.with_name(database.name + SUFFIX)


class AdapterFiles:
    """The folders of a store's adapters, under one root. It is a `Forgetter` port."""

    def __init__(self, store: Store, root: Path) -> None:
        """Use the folder `root`, which is made when it is needed."""
        self.store = store
        self.root = root

    def path(self, name: str) -> Path:
        """Return the folder of a ready adapter; raises StoreError if it is not there."""
        folder = self.root / name
        if not folder.is_dir():
            raise StoreError(
                f"the adapter {name} is not in {str(self.root)!r}; give the folder that it was "
                "trained into, or train again"
            )
        return folder

    @contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """Give the folder in which an adapter is made, with what an earlier try left in it.

        Raises StoreError if another process is making it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root / (name + MAKING)
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreError(f"another process trains {name}; wait for it to end") from error
            yield folder
        finally:
            os.close(handle)

    def publish(self, adapter: Adapter) -> None:
        """Make the adapter that lies in its `making` folder ready; what it replaces goes.

        Raises UnknownUser if a source of it was forgotten meanwhile; then its files go, too.
        """
        aside, folder = self.root / (adapter.name + MAKING), self.root / adapter.name
        try:
            for path in (*sorted(aside.iterdir()), aside):
                to_disk(path)
            failpoint("adapter-before-rename")
            with self.store.database.write() as connection:
                finish(connection, adapter)
                shutil.rmtree(folder, ignore_errors=True)  # of a try that died between the two
                aside.rename(folder)
                to_disk(self.root)
                failpoint("adapter-before-commit")
        except OSError as error:
            raise StoreError(f"the adapter {adapter.name} cannot be kept: {error}") from error
        finally:
            self.sweep()

    def sweep(self) -> int:
        """Remove the files of adapters that are no more; return of how many there were some."""
        removed = 0
        with self.store.database.read() as connection:
            if connection.execute(select(leftovers.c.folder).limit(1)).first() is None:
                return 0
        with self.store.database.write() as connection:  # nobody begins one of the same name now
            mine = select(leftovers.c.folder).with_for_update()
            for name in connection.execute(mine).scalars().all():
                removed += self._remove(name)
                connection.execute(delete(leftovers).where(leftovers.c.folder == name))
        return removed

    def forget(self, scope: Scope) -> int:
        """Remove the adapters that a user's events are in, rows and files; return how many."""
        owner = owner_of(scope)
        with self.store.database.write() as connection:
            self.store.lock(connection, owner)
            names = touching(connection, owner)
            discard(connection, owner[0], names, 0)
        self.sweep()
        return len(names)

    def problems(self, connection: Connection) -> Iterator[str]:
        """Give the ready adapters whose files are not theirs, and the folders that are no one's."""
        query = select(adapters.c.name, adapters.c.digest, adapters.c.state)
        known = {row.name: row for row in connection.execute(query)}
        for name, row in known.items():
            if row.state == READY and digest_of(self.root / name) != row.digest:
                yield f"the files of adapter {name} are not there, or are not those of its row"
        gone = set(connection.execute(select(leftovers.c.folder)).scalars())
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            name = folder.name.removesuffix(MAKING)
            if name not in known and name not in gone:
                yield f"the folder {folder} is of no adapter in this store"

    def _remove(self, name: str) -> bool:
        found = False
        for folder in (self.root / name, self.root / (name + MAKING)):
            if folder.exists():
                found = True
                try:
                    shutil.rmtree(folder)
                except FileNotFoundError:
                    pass  # another process removes it, too
                except OSError as error:
                    raise StoreError(f"{folder} cannot be removed: {error.strerror}") from error
        return found


def digest_of(folder: Path) -> str:
    """Return the hash of an adapter's weights; empty if they are not there."""
    path = folder / WEIGHTS
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Adapters where models run: loaded when they are trained, unloaded when they are forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from persona_agent.memory.adapter_files import AdapterFiles
from persona_agent.memory.adapter_rows import touching
from persona_agent.memory.adapters import adapters_of
from persona_agent.memory.rows import owner_of
from persona_agent.memory.store import Store
from persona_agent.ports import AdapterHost
from persona_agent.types import Scope


class Hosted:
    """What of a store's adapters a host has loaded. It is a `Forgetter` port."""

    def __init__(self, store: Store, host: AdapterHost) -> None:
        self._store = store
        self._host = host

    def forget(self, scope: Scope) -> int:
        """Unload the adapters that a user's events are in; return how many were loaded."""
        with self._store.database.read() as connection:
            names = touching(connection, owner_of(scope))
        return self.unload(names)

    def unload(self, names: Iterable[str]) -> int:
        """Unload those of these adapters that are loaded; return how many were."""
        loaded = [name for name in names if name in self._host.adapters()]
        for name in loaded:
            self._host.unload_adapter(name)
        return len(loaded)

    def sync(self, files: AdapterFiles, tenant: str) -> int:
        """Load every ready adapter of a tenant that is not loaded; return how many were not."""
        there = self._host.adapters()
        missing = [one for one in adapters_of(self._store, tenant) if one.name not in there]
        for one in missing:
            self._host.load_adapter(one.name, files.path(one.name))
        return len(missing)

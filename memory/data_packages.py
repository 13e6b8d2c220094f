"""Files inside packages that are installed for their data alone, found without importing them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from persona_agent.errors import BackendError

INSTALL_LOCAL = 'pip install "persona-agent-framework[local]"'


def data_file(package: str, path: str, *, what: str, install: str) -> Path:
    """Return the file at `path` inside a package, whose own code and needs are left alone.

    Raises BackendError naming `what` is missing, and the command that installs it.
    """
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / path
        if file.is_file():
            return file
    distribution = install.rpartition(" ")[2].partition("==")[0]
    raise BackendError(f"{what} of {distribution}, which is not installed; run: {install}")

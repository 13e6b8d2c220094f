"""Running the server: one process, or several that share an address."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from typing import Any

import uvicorn
from fastapi import FastAPI

from persona_agent.serve.allocator import return_large_blocks
from persona_agent.serve.app import create_app
from persona_agent.serve.config import Config
from persona_agent.serve.metrics import SHARED

WORKER_CONFIG = "PERSONA_AGENT_WORKER_CONFIG"
SILENT_S = 30  # a worker that says nothing for so long is replaced: a busy machine makes it slow
PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A line of JSON a record: time, level, logger, message, and what the call added."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {
            k: v for k, v in record.__dict__.items() if k not in PLAIN and k != "color_message"
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def run(config: Config) -> None:
    """Serve until the process is told to end; then finish what is under way, and return."""
    options: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": config.keep_alive_s,
        "timeout_graceful_shutdown": max(1, round(config.drain_s)),
    }
    log_to_stderr(config.log_level)
    if config.workers == 1:
        return_large_blocks()
        uvicorn.run(create_app(config), **options)
        return
    with tempfile.TemporaryDirectory(prefix="persona-agent-figures-") as folder:
        os.environ[SHARED] = folder
        # To the workers by the environment: they are new processes, and a list of processes
        # shows arguments to everybody.
        os.environ[WORKER_CONFIG] = json.dumps(_plain(config))
        uvicorn.run(
            "persona_agent.serve.run:worker",
            factory=True,
            workers=config.workers,
            timeout_worker_healthcheck=SILENT_S,
            **options,
        )


def worker() -> FastAPI:
    """Return the application of one of several processes."""
    return_large_blocks()
    config = Config.model_validate_json(os.environ[WORKER_CONFIG])
    log_to_stderr(config.log_level)
    return create_app(config)


def log_to_stderr(level: str) -> None:
    """Write log records as lines of JSON to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore"):  # they log addresses with every request
        logging.getLogger(name).setLevel(logging.WARNING)


def _plain(config: Config) -> Any:  # Any: JSON
    """Return the configuration with its secrets, for a worker's eyes."""

    def plain(value: Any) -> Any:
        if hasattr(value, "get_secret_value"):
            return value.get_secret_value()
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(config.model_dump())

"""A vLLM server of our own, as long as a block of code lasts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from persona_agent.errors import BackendError
from persona_agent.llm.serving import Serving

START_S = 240.0  # a small model on two busy cores takes 30


@contextmanager
def served(plan: Serving, port: int, *, start_s: float = START_S) -> Iterator[str]:
    """Run the command of `plan`, which listens on `port` of this machine; yield its base URL.

    Its log goes to stderr, errors only. Raises BackendError if the server ends, or does not answer
    within `start_s` seconds; it is ended with the block.
    """
    environment = {**os.environ, **plan.environment, "VLLM_LOGGING_LEVEL": "ERROR"}
    with subprocess.Popen(plan.command, env=environment, stdout=sys.stderr) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server, start_s)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait_for(address: str, server: subprocess.Popen[bytes], start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)  # not yet
    if server.returncode is not None:
        raise BackendError(f"the vLLM server ended with {server.returncode}; its log says why")
    raise BackendError(f"the vLLM server did not answer within {start_s:g} s")

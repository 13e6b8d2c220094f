"""A server and an upstream as processes of their own, and a client that costs little.

The client speaks HTTP over asyncio's streams: on a machine that runs client, server and upstream
at once, a heavier one would be what is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from persona_agent.errors import BackendError

ADMIN = "an-operators-key-of-the-bench"
START_S = 120.0
IDLE_S, IDLE = 1.0, 0.05  # a second in which less than this share of a core is used


@dataclass(slots=True)
class Told:
    """What a server answered: status, headers by lower-case name, body, and when its parts came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    first_s: float

    def json(self) -> Any:  # Any: JSON
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Client:
    """One connection, kept open; requests go one after the other."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Told:
        """Return the answer; raises ConnectionError where there is none."""
        content = b"" if body is None else json.dumps(body).encode()
        if self._writer is None:
            host, port = self.url.removeprefix("http://").split("/")[0].split(":")
            self._reader, self._writer = await asyncio.open_connection(host, int(port))
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(content)}"]
        lines.append("content-type: application/json")
        lines += [f"{k}: {v}" for k, v in {**self.headers, **(headers or {})}.items()]
        begun = time.perf_counter()
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
        try:
            return await self._read(begun)
        except (asyncio.IncompleteReadError, OSError) as error:
            self.close()
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _read(self, begun: float) -> Told:
        reader = self._reader
        assert reader is not None
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        body = b""
        first = 0.0
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\n"), 16):
                part = (await reader.readexactly(size + 2))[:-2]
                if not first and b'"content": "' in part and b'"content": ""' not in part:
                    first = time.perf_counter() - begun
                body += part
            await reader.readuntil(b"\n")
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        seconds = time.perf_counter() - begun
        return Told(status, headers, body, seconds, first or seconds)


@contextmanager
def stub_upstream(delay_ms: float = 0.0) -> Iterator[str]:
    """Give the address of an upstream without a model, a process of its own."""
    command = [sys.executable, "-m", "persona_agent.eval.bench.stub_upstream"]
    with subprocess.Popen(
        [*command, "--delay-ms", str(delay_ms)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def server(
    database: str, upstream: str, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Give the address of `persona-agent serve`, and its process, which is ended with the block."""
    port = free_port()
    environment = {
        **os.environ,
        "PERSONA_AGENT_SERVE_ADMIN_KEY": ADMIN,
        "PERSONA_AGENT_SERVE_LLM": "openai:stub",
        "PERSONA_AGENT_SERVE_BASE_URL": upstream,
        "PERSONA_AGENT_SERVE_LOG_LEVEL": "error",
        "PERSONA_AGENT_SERVE_LEARN__ENABLED": "false",
        **{f"PERSONA_AGENT_SERVE_{key.upper()}": value for key, value in (settings or {}).items()},
    }
    code = "from persona_agent.cli import main; main()"
    command = [sys.executable, "-c", code, "--db", database, "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process)
            yield url, process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def resident_mb(pid: int) -> float:
    """Return the megabytes of memory of a process and its children."""
    total = 0
    for one in [pid, *_children(pid)]:
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * 4096
        except FileNotFoundError:
            continue  # it ended meanwhile
    return total / 2**20


def cpu_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process and its children have used."""
    ticks = 0
    for one in [pid, *_children(pid)]:
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue  # it ended meanwhile
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def settle(pid: int) -> None:
    """Wait until a process and its children have nothing to do: all workers are up, all is stored."""
    deadline = time.monotonic() + START_S
    used = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(IDLE_S)
        before, used = used, cpu_seconds(pid)
        if used - before < IDLE * IDLE_S:
            return
    raise BackendError(f"the server was still busy after {START_S:g} s without a request")


def figures(url: str) -> dict[str, float]:
    """Return what a server's `/metrics` tells, by name and labels."""
    with urlopen(f"{url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    told = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in told}


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(one) for one in path.read_text().split()] if path.exists() else []
    return found + [below for one in found for below in _children(one)]


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/ready", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.05)  # not yet
    raise BackendError(f"the server did not start within {START_S:g} s, or ended at once")

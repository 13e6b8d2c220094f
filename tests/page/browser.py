"""A browser for the tests of the page: which one is on this machine, and how one is had.

`python -m tests.page.browser` installs one where there is none: Debian's Chromium, where apt-get can
be used, else the one that Playwright downloads. It says why if neither can be had, and ends well
all the same: the tests say that they were left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHOSEN = "PERSONA_AGENT_BROWSER"  # a Chromium of one's own
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (  # a browser that asks nobody but the page's own server
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
INSTALL_S = 600


def find() -> str | None:
    """Return the path of a Chromium of this machine; None if there is none."""
    chosen = os.environ.get(CHOSEN)
    if chosen:
        return chosen
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """Give a headless browser, closed with the block.

    While it is open, Playwright's event loop runs in this thread: `asyncio.run` cannot be called.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=list(QUIET), timeout=180_000
        )
        try:
            yield browser
        finally:
            browser.close()


def install() -> str | None:
    """Install a Chromium unless there is one; return why there is none then, None if there is."""
    reasons = []
    for command in _ways():
        if find() is not None:
            return None
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                timeout=INSTALL_S, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{command[0]}: {error}")
            continue
        if done.returncode:
            reasons.append(f"{' '.join(command)}: {_reason(done.stderr or done.stdout)}")
    return None if find() is not None else "; ".join(reasons)


def _reason(said: str) -> str:
    """Return the line of an installer's words that says what went wrong."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Error:"))]
    return (errors or lines or ["it did not say why"])[-1]


def _ways() -> list[list[str]]:
    ways = []
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.append("apt-get update -qq".split())
        ways.append(
            "apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core".split()
        )
    return [*ways, [sys.executable, "-m", "playwright", "install", "chromium"]]


if __name__ == "__main__":
    reason = install()
    print(find() if reason is None else f"no browser, so no tests of the page: {reason}")

"""A visit of the page: a browser window of its own, and everything that went wrong in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Request,
    Response,
    expect,
)

WAIT_MS = 60_000  # a busy machine is slow
expect.set_options(timeout=WAIT_MS)
REFUSED = re.compile(r"status of (\d{3})")


class Visit:
    """An open window of the page."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self._home = url.rstrip("/")
        self._faults: list[str] = []
        self._expected: set[int] = set()
        context.set_default_timeout(WAIT_MS)
        self.page: Page = context.new_page()
        self.page.on("console", lambda said: self._console(said.type, said.text))
        self.page.on("pageerror", lambda error: self._faults.append(f"script: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._requested)
        self.page.on("response", self._answered)
        self.page.goto(url)

    def expects(self, *statuses: int) -> None:
        """Say that the server may answer with these statuses in this test."""
        self._expected.update(statuses)

    def sign_in(self, key: str, person: str | None = None) -> None:
        """Sign in with a key, name the person where the key acts for many, and wait for it."""
        self.page.get_by_label("Your key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        if person is not None:
            self.page.get_by_label("Person").fill(person)
            self.page.get_by_role("button", name="Show this memory").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        self.settled()

    def go(self, section: str) -> Page:
        """Go to a section by its link, and wait until it stands."""
        sections = self.page.get_by_role("navigation", name="Sections")
        sections.get_by_role("link", name=section, exact=True).click()
        expect(self.heading(section)).to_be_visible()
        self.settled()
        return self.page

    def heading(self, text: str) -> Locator:
        """Return the heading of a section."""
        return self.page.get_by_role("heading", level=1, name=text, exact=True)

    def settled(self) -> None:
        """Wait until nothing on the page says that it is being loaded."""
        expect(self.page.locator("[aria-busy=true]")).to_have_count(0)

    def check(self) -> None:
        """Raise AssertionError for everything that went wrong and was not expected."""
        if self._faults:
            raise AssertionError("the browser told of faults:\n" + "\n".join(self._faults))

    def _console(self, kind: str, text: str) -> None:
        refused = REFUSED.search(text)
        if refused and int(refused[1]) in self._expected:
            return
        if kind in ("error", "warning"):
            self._faults.append(f"console: {text}")

    def _failed(self, request: Request) -> None:
        if request.failure == "net::ERR_ABORTED":  # the page itself gave it up
            return
        self._faults.append(f"{request.method} {request.url}: {request.failure}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self._home, "data:", "blob:")):
            self._faults.append(f"asked somebody else: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected:
            self._faults.append(f"{response.status} {response.url}")


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """Give a visit in a window of its own; nothing may have gone wrong in it when it ends well.

    `options` are those of `Browser.new_context`.
    """
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    try:
        made = Visit(context, url)
        yield made
        made.check()
    finally:
        context.close()

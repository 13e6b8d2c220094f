"""What the tests of the page share: a server with people in it, and a browser that misses nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.page import browser as browsers
from tests.page.visit import Visit, visiting
from tests.page.world import Person, World
from tests.page.world import world as a_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that runs for the tests of a file; a test takes people of its own from it."""
    with a_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")  # no longer: while it is open, no test may call asyncio.run
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = browsers.find()
    if path is None:
        reason = "no Chromium is on this machine: `python -m tests.page.browser` installs one"
        if os.environ.get("PERSONA_AGENT_REQUIRE_REAL") == "1":
            pytest.fail(f"{reason}, and nothing may be left out", pytrace=False)
        pytest.skip(reason)
    with browsers.opened(path) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser, world: World) -> Iterator[Callable[..., Visit]]:
    """Give a function that opens the page, signed in as a person if one is given.

    It takes what `Browser.new_context` takes. At the end of the test every error that the browser
    told of, and that the test did not say it expected, fails it.
    """
    with ExitStack() as open_visits:

        def start(person: Person | None = None, *, url: str = world.url, **options: Any) -> Visit:
            made = open_visits.enter_context(visiting(browser, url, **options))
            if person is not None:
                made.sign_in(person.key)
            return made

        yield start

"""The page below a path, as behind a proxy that adds one: its addresses are relative."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.page.visit import visiting
from tests.page.world import World
from tests.serve.conftest import listening

PATH = "/people/memory"


@contextmanager
def below(app: ASGIApp) -> Iterator[str]:
    """Give an address with a path, below which an application that runs already answers."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # the application has its own
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert scope["path"].startswith(f"{PATH}/"), f"{scope['path']} left the path"
        inner = {
            **scope,
            "path": scope["path"].removeprefix(PATH),
            "raw_path": scope["raw_path"].removeprefix(PATH.encode()),
        }
        await app(inner, receive, send)

    with listening(proxy) as running:
        yield f"{running.url}{PATH}/"


def test_every_section_works_below_a_path(browser: Browser, world: World) -> None:
    person = world.person()
    with below(world.running.app) as address, visiting(browser, address) as made:
        made.sign_in(person.key)
        made.page.get_by_role("button", name="Align now").click()
        expect(made.page.locator("#align-result")).to_contain_text("Accepted")
        for section in ("Timeline", "Memories", "For you", "My data", "Chat"):
            made.go(section)
        made.page.get_by_label("Your message").fill("Hello")
        made.page.get_by_role("button", name="Send").click()
        expect(made.page.get_by_role("button", name="Good answer")).to_be_visible()
        assert made.page.url.startswith(address)

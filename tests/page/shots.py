"""The pictures of docs/page.md: `python -m tests.page.shots` takes them anew, into docs/page.

They are of a server like the tests', with one person in it; the model's answers are made up.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.page import browser as browsers
from tests.page.visit import Visit, visiting
from tests.page.world import Person, World, world

FOLDER = Path(__file__).parents[2] / "docs" / "page"
LIGHT: dict[str, Any] = {"viewport": {"width": 1180, "height": 900}, "color_scheme": "light"}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 820}, "is_mobile": True}
COLOURS = 160  # a page has few: a palette makes the file a third
OWN = "Sees films in the language they were made in"
QUESTION = "What should I watch tonight?"


def top(page: Page) -> Page:
    """Show a page from its beginning, with nothing pointed at."""
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    return page


def about(visit: Visit) -> Page:
    """Show the persona, one line opened."""
    page = visit.go("About me")
    noir = page.locator("#persona > li").filter(has_text="Rates noir")
    noir.get_by_role("button", name="Why?").click()
    expect(noir.get_by_text("The memories it rests on")).to_be_visible()
    return top(page)


def alignment(visit: Visit) -> Page:
    """Show how an alignment ended."""
    page = visit.go("About me")
    page.locator("#align-heading").evaluate("one => one.scrollIntoView()")
    return page


def timeline(visit: Visit) -> Page:
    """Show the versions, one change opened."""
    page = visit.go("Timeline")
    page.locator("[data-version='2']").get_by_text("What changed").click()
    expect(page.locator("[data-version='2'] .change")).to_be_visible()
    page.mouse.move(0, 0)
    page.locator("[data-version='3']").evaluate("one => one.scrollIntoView()")
    return page


def memories(visit: Visit) -> Page:
    """Show a search, one match explained."""
    page = visit.go("Memories")
    page.get_by_label("Search your memories").fill("dubbing and subtitles")
    page.keyboard.press("Enter")
    page.locator("#found > li").first.get_by_text("why?").click()
    expect(page.get_by_text("Alike in words").first).to_be_visible()
    return top(page)


def for_you(visit: Visit) -> Page:
    """Show recommendations."""
    page = visit.go("For you")
    page.locator("[data-item]").first.get_by_role("button", name="How it was found").click()
    expect(page.get_by_text("made of:")).to_be_visible()
    return top(page)


def chat(visit: Visit) -> Page:
    """Show an answer, and what it knew."""
    page = visit.go("Chat")
    page.get_by_role("textbox").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    visit.settled()
    page.locator("[data-used=used] summary").click()
    expect(page.locator("[data-used=used]").get_by_role("listitem").first).to_be_visible()
    return top(page)


def my_data(visit: Visit) -> Page:
    """Show what would be forgotten."""
    page = visit.go("My data")
    page.get_by_role("button", name="See what would go").click()
    expect(page.get_by_role("button", name="Forget me…")).to_be_visible()
    return top(page)


def operators(view: str) -> Callable[[Visit], Page]:
    """Return what shows an operators' view."""

    def show(visit: Visit) -> Page:
        visit.go("Operators")
        views = visit.page.get_by_role("navigation", name="Operators' views")
        views.get_by_role("link", name=view, exact=True).click()
        expect(visit.page.get_by_role("heading", level=2, name=view, exact=True)).to_be_visible()
        visit.settled()
        return top(visit.page)

    return show


SHOTS: dict[str, Callable[[Visit], Page]] = {
    "about": about,
    "alignment": alignment,
    "timeline": timeline,
    "memories": memories,
    "for-you": for_you,
    "chat": chat,
    "my-data": my_data,
    "operators-health": operators("Health"),
    "operators-jobs": operators("Jobs"),
    "operators-cost": operators("Cost"),
}
DARK = ("about",)
ON_A_PHONE = ("about",)


def people(made: World) -> Person:
    """Make the people of the pictures and return whom they are of."""
    alice = made.person("alice")
    made.learned(alice, 3)
    made.aligned(alice)
    with made.client(alice) as web:
        home = f"/v1/users/{alice.user}/persona"
        lines = [one["text"] for one in web.get(home).json()["lines"]]
        kept = sorted((one for one in lines if one.startswith("Rates")), reverse=True)
        web.put(home, json={"lines": [OWN, *kept]})
        web.post(f"{home}/lock", json={"line": OWN, "locked": True})
    made.rates_more(alice)
    made.aligned(alice)
    for name in ("bob", "carol", "dora"):
        made.person(name)
    return alice


def take(browser: Browser, made: World, folder: Path) -> None:
    """Take every picture."""
    alice = people(made)
    key = made.running.key("operator", user=alice.user)
    plan = [(name, name, LIGHT) for name in SHOTS]
    plan += [(name, f"{name}-dark", {**LIGHT, "color_scheme": "dark"}) for name in DARK]
    plan += [(name, f"{name}-phone", PHONE) for name in ON_A_PHONE]
    for name, file, options in plan:
        with visiting(browser, made.url, **options) as visit:
            visit.sign_in(key)
            page = SHOTS[name](visit)
            page.locator("#status").evaluate("one => { one.textContent = ''; }")
            path = folder / f"{file}.png"
            page.screenshot(path=path, animations="disabled")
        Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path} {path.stat().st_size // 1000} kB")


def main(folder: Path = FOLDER) -> None:
    """Take the pictures into a folder; ends with a message where there is no browser."""
    path = browsers.find()
    if path is None:
        sys.exit("no Chromium is on this machine: `python -m tests.page.browser` installs one")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as here,
        world(Path(here)) as made,
        browsers.opened(path) as browser,
    ):
        take(browser, made, folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

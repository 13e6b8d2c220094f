"""Hostile text is text: wherever data is shown, nothing in it is run, loaded or takes the page over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.page.visit import Visit
from tests.page.world import Person, World

MARKUP = "<img src=x onerror=window.taken=1><script>window.taken=1</script>"
LINE = "&lt;img src=x onerror=window.taken=1&gt;"  # angle brackets are in no line
HOSTILE = [
    MARKUP,
    '"><svg onload=window.taken=1>',
    "javascript:window.taken=1",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "\u202egnihtemos\u202c מימין לשמאל",
    "a\u0301\u0301\u0301 " + "W" * 400,
]


def untouched(page: Page) -> None:
    """Check that no text of data became a part of the page."""
    assert page.evaluate("window.taken === undefined")
    assert page.locator("main img, main script, main iframe, main svg[onload]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def victim(world: World) -> Person:
    """Somebody whose id, memories and persona are hostile."""
    person = world.person("mallory <b>&amp;")
    with world.client(person) as web:
        memories = [
            {"query": text, "response": text, "outcome": text, "metadata": {"channel": MARKUP}}
            for text in HOSTILE
        ]
        assert web.post("/v1/memories", json={"memories": memories}).is_success
        lines = [LINE, "{{7*7}}", "מעדיף סרטים קצרים"]
        path = f"/v1/users/{person.user}/persona"
        assert web.put(path, json={"lines": lines}).is_success
    return person


def test_hostile_memories_and_lines_are_shown_as_text(
    visit: Callable[..., Visit], victim: Person
) -> None:
    made = visit(victim)
    expect(made.page.locator("#person")).to_have_text(victim.user)
    expect(made.page.locator("#persona")).to_contain_text(LINE)
    untouched(made.page)
    made.go("Timeline")
    untouched(made.page)
    page = made.go("Memories")
    for text in HOSTILE[:4]:
        expect(page.locator("[data-memory]").filter(has_text=text).first).to_be_visible()
    untouched(page)
    page.get_by_label("Search your memories").fill("onerror window taken")
    page.keyboard.press("Enter")
    expect(page.locator("#found > li").first).to_contain_text("onerror=window.taken=1")
    untouched(page)
    page.locator("#found > li").first.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("window.taken=1")
    untouched(page)


def test_hostile_words_in_a_chat_are_shown_as_text(
    visit: Callable[..., Visit], victim: Person
) -> None:
    made = visit(victim)
    page = made.go("Chat")
    page.get_by_label("Your message").fill(MARKUP)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#talk > .me")).to_contain_text(MARKUP)
    expect(page.locator("#talk > [aria-busy=true]")).to_have_count(0)
    page.locator("[data-used=used] summary").click()
    expect(page.locator("[data-used=used]").get_by_role("listitem").first).to_be_visible()
    untouched(page)


def test_a_hostile_id_is_text_to_operators_too(
    visit: Callable[..., Visit], world: World, victim: Person
) -> None:
    made = visit()
    made.page.goto(f"{world.url}/#operators/users")
    made.sign_in(world.running.key("operator"))
    name = made.page.get_by_role("rowheader", name=victim.user, exact=True)
    expect(name).to_be_visible()
    untouched(made.page)


def test_a_hostile_address_shows_a_section_and_runs_nothing(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    for fragment in (
        MARKUP,
        "memories/" + MARKUP,
        "operators/users",
        "__proto__",
        "memories/%E0%A4%A",
    ):
        made.page.goto(f"{world.url}/#{fragment}")
        made.page.reload()
        expect(made.page.get_by_role("heading", level=1)).to_be_visible()
        made.settled()
        untouched(made.page)

"""What keeps people out: axe-core on every section by day and by night, narrow windows, no mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.visit import Visit
from tests.page.world import Person, World

SECTIONS = ["About me", "Timeline", "Memories", "For you", "Chat", "My data"]
VIEWS = ["health", "users", "jobs", "cost", "keys"]
SCHEMES = ["light", "dark"]
GRAVE = ("serious", "critical")
# Text that sticks out of the page to the right, if any does.
WIDER = """() => {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return "";
  const out = [...document.querySelectorAll("body *")].filter(
    (one) => one.getBoundingClientRect().right > clientWidth && !one.closest(".scroll"),
  );
  return out.map((one) => `${one.tagName}#${one.id}.${one.className}`).join(" ");
}"""


def faults(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical: the rule, and where."""
    found: dict[str, Any] = Axe().run(page).response
    assert "color-contrast" in [one["id"] for one in found["passes"]], "it looked at nothing"
    return [
        f"{one['id']} at {node['target']}: {node.get('failureSummary')}"
        for one in found["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


@pytest.fixture(scope="module")
def known(world: World) -> Person:
    """Somebody of whom there is all that the page can show."""
    person = world.person("dana")
    world.aligned(person)
    world.rates_more(person)
    world.aligned(person)
    return person


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_keeps_people_out_of_a_section(
    visit: Callable[..., Visit], known: Person, scheme: str
) -> None:
    made = visit(known, color_scheme=scheme)
    for section in SECTIONS:
        page = made.go(section)
        assert (section, faults(page)) == (section, [])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_keeps_people_out_of_the_operators_views(
    visit: Callable[..., Visit], known: Person, world: World, scheme: str
) -> None:
    made = visit(color_scheme=scheme)
    assert faults(made.page) == []  # where one signs in
    made.page.goto(f"{world.url}/#operators")
    made.sign_in(world.running.key("operator"))
    for view in VIEWS:
        show(made, view)
        assert (view, faults(made.page)) == (view, [])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_keeps_people_out_of_what_opens(
    visit: Callable[..., Visit], known: Person, scheme: str
) -> None:
    made = visit(known, color_scheme=scheme)
    page = made.page

    def opens(control: str, shown: str) -> None:
        page.get_by_role("main").get_by_role("button", name=control).first.click()
        expect(page.get_by_text(shown).first).to_be_visible()
        assert (control, faults(page)) == (control, [])

    opens("Why?", "The memories it rests on")
    opens("Edit", "What should it say?")
    page.get_by_role("button", name="Cancel").click()
    opens("Remove", "Remove this line?")
    page.get_by_role("button", name="Cancel").click()
    made.go("Timeline")
    page.get_by_text("What changed").first.click()
    opens("Compare", "From version")
    made.go("Memories")
    opens("History", "What happened to it")
    opens("Add a memory", "What was answered")
    page.get_by_role("button", name="Cancel").click()
    made.go("For you")
    opens("How it was found", "made of:")
    made.go("Chat")
    page.get_by_label("Your message").fill("Which film with subtitles?")
    opens("Send", "Good answer")
    expect(page.locator("#talk > [aria-busy=true]")).to_have_count(0)
    page.locator("[data-used=used] summary").click()
    assert ("what was used", faults(page)) == ("what was used", [])
    made.go("My data")
    opens("See what would go", "What would go")
    opens("Forget me…", "to confirm")


def show(visit: Visit, view: str) -> None:
    visit.page.goto(f"{visit.url}/#operators/{view}")
    expect(visit.page.locator(f"#view-{view}")).to_be_visible()
    visit.settled()


@pytest.mark.parametrize("width", [320, 360])
def test_nothing_sticks_out_of_a_narrow_window(
    visit: Callable[..., Visit], world: World, width: int
) -> None:
    person = world.person("narrow")
    world.aligned(person)
    word = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamten" * 3
    with world.client(person) as web:
        assert web.post("/v1/memories", json={"memories": [{"query": word}]}).is_success
        lines = web.get(f"/v1/users/{person.user}/persona").json()["lines"]
        texts = [*(line["text"] for line in lines), word[:200]]
        assert web.put(f"/v1/users/{person.user}/persona", json={"lines": texts}).is_success
    made = visit(person, viewport={"width": width, "height": 740})
    for section in SECTIONS:
        page = made.go(section)
        assert (section, page.evaluate(WIDER)) == (section, "")


def test_nothing_sticks_out_of_the_operators_views(
    visit: Callable[..., Visit], world: World
) -> None:
    world.person("a-user-whose-id-is-as-long-as-an-address-" * 4)
    made = visit(viewport={"width": 360, "height": 740})
    made.page.goto(f"{world.url}/#operators")
    made.sign_in(world.running.key("operator", "many-users"))
    for view in VIEWS:
        show(made, view)
        assert (view, made.page.evaluate(WIDER)) == (view, "")


FOCUS = """() => {
  const one = document.activeElement;
  if (one === document.body) return ["", "", "auto"];  // the browser's own controls have it
  return [one.id, one.getAttribute("aria-label") ?? one.textContent.trim(),
          getComputedStyle(one).outlineStyle];
}"""


def test_the_page_is_walked_without_a_mouse(visit: Callable[..., Visit], world: World) -> None:
    person = world.person("kay")
    made = visit()
    keyboard, page = made.page.keyboard, made.page

    def tab_to(name: str) -> str:
        for _ in range(60):
            keyboard.press("Tab")
            identity, text, outline = page.evaluate(FOCUS)
            assert outline != "none", f"nobody sees that the focus is on {text!r}"
            if name in (identity, text):
                return str(text)
        raise AssertionError(f"Tab does not come to {name!r}")

    tab_to("key")
    keyboard.type(person.key)
    keyboard.press("Enter")
    expect(made.heading("About me")).to_be_focused()
    made.settled()
    page.reload()
    expect(made.heading("About me")).to_be_focused()
    made.settled()
    page.evaluate("document.activeElement.blur()")
    assert tab_to("skip") == "Skip to the content"
    keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to("Lock")
    keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("locked")
    expect(page.get_by_role("button", name="Unlock")).to_be_focused()
    page.evaluate("document.activeElement.blur()")
    tab_to("nav-timeline")
    keyboard.press("Enter")
    expect(made.heading("Timeline")).to_be_focused()
    made.settled()


def test_a_dialog_takes_the_focus_and_gives_it_back(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person("dia"))
    edit = made.page.get_by_role("button", name="Edit").first
    edit.focus()
    made.page.keyboard.press("Enter")
    dialog = made.page.get_by_role("dialog", name="Edit the line")
    expect(dialog.get_by_label("What should it say?")).to_be_focused()
    made.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(edit).to_be_focused()

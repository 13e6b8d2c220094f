"""Signing in: the key stays in the tab, errors are told in words, and signing out forgets it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, expect

from persona_agent.serve import auth
from tests.page.visit import Visit, visiting
from tests.page.world import World
from tests.page.world import world as a_world


def kept(visit: Visit) -> str:
    """Return all that the browser keeps for the page beside the tab's own storage."""
    return str(visit.page.evaluate("JSON.stringify([{...localStorage}, document.cookie])"))


def test_a_key_that_is_not_known_is_told_in_words_and_not_kept(
    visit: Callable[..., Visit],
) -> None:
    made = visit()
    made.expects(401)
    made.page.get_by_role("button", name="Sign in").click()
    expect(made.page.get_by_text("Give the key that you were given.")).to_be_visible()
    expect(made.page.get_by_label("Your key")).to_be_focused()
    made.page.get_by_label("Your key").fill("pa_wrong_wrong")
    made.page.keyboard.press("Enter")
    expect(made.page.get_by_role("alert").get_by_text("This key is not known")).to_be_visible()
    assert made.page.evaluate("sessionStorage.length") == 0


def test_the_key_is_kept_in_this_tab_alone_and_forgotten_at_the_end(
    visit: Callable[..., Visit], world: World
) -> None:
    ann = world.person()
    made = visit(ann)
    assert ann.key in made.page.evaluate("JSON.stringify({...sessionStorage})")
    assert ann.key not in kept(made)
    assert ann.key not in made.page.url
    made.page.reload()
    expect(made.heading("About me")).to_be_visible()
    made.settled()
    made.page.get_by_role("button", name="Sign out").click()
    expect(made.page.get_by_label("Your key")).to_be_visible()
    assert made.page.evaluate("sessionStorage.length") == 0
    assert ann.key not in kept(made)


def test_a_key_that_acts_for_many_asks_whose_memory(
    visit: Callable[..., Visit], world: World
) -> None:
    ann, bea = world.person("ann"), world.person("bea")
    made = visit()
    made.sign_in(world.running.key("many-users"), ann.user)
    expect(made.page.locator("#person")).to_have_text(ann.user)
    made.page.get_by_role("link", name="Another person").click()
    made.page.get_by_label("Person").fill(bea.user)
    made.page.get_by_role("button", name="Show this memory").click()
    expect(made.page.locator("#person")).to_have_text(bea.user)
    expect(made.heading("About me")).to_be_visible()
    made.settled()


def test_a_key_that_is_revoked_ends_the_visit_and_says_so(
    visit: Callable[..., Visit], world: World
) -> None:
    ann = world.person()
    made = visit(ann)
    made.expects(401)
    keys = world.running.service.keys
    (own,) = [one for one in keys.list("default") if one.user == ann.user]
    keys.revoke(own.id, datetime.now(UTC))
    made.page.wait_for_timeout(1000 * auth.KEY_CACHE_S + 500)  # so long a revoked key may work
    made.page.get_by_role("link", name="Timeline").click()
    expect(made.page.get_by_label("Your key")).to_be_visible()
    expect(made.page.locator("#alert")).to_contain_text("was revoked")


def test_a_server_that_asks_for_no_key_asks_whose_memory_alone(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        a_world(tmp_path, recommends=False, auth="off") as plain,
        visiting(browser, plain.url) as made,
    ):
        person = plain.person()
        made.page.get_by_label("Person").fill(person.user)
        made.page.get_by_role("button", name="Show this memory").click()
        expect(made.heading("About me")).to_be_visible()
        made.settled()
        expect(made.page.get_by_role("button", name="Sign out")).to_have_count(0)
        expect(made.go("Memories").locator("[data-memory]").first).to_be_visible()

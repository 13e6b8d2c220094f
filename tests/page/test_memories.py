"""Memories and what is mine: list, search, add, correct, delete, take along, be forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.page.visit import Visit
from tests.page.world import REMEMBERED, World

SAID = "Subtitles are fine, dubbing is not."


def card(page: Page, text: str) -> Locator:
    """Return the card of a memory."""
    return page.locator("[data-memory]").filter(has_text=text)


def test_memories_are_listed_latest_first_a_page_at_a_time(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    page = made.go("Memories")
    cards = page.locator("[data-memory]")
    expect(cards).to_have_count(25)
    expect(cards.first).to_contain_text(SAID)
    page.get_by_role("button", name="Show earlier memories").click()
    expect(cards).to_have_count(REMEMBERED)
    expect(cards.nth(25)).to_be_focused()
    expect(page.get_by_role("button", name="Show earlier memories")).to_have_count(0)


def test_a_search_finds_and_says_why(visit: Callable[..., Visit], world: World) -> None:
    person = world.person()
    world.learned(person, 3)
    made = visit(person)
    page = made.go("Memories")
    page.get_by_label("Search your memories").fill("dubbing")
    page.keyboard.press("Enter")
    found = page.locator("#found > li")
    expect(found.filter(has_text=SAID).first).to_be_visible()
    expect(found.filter(has_text="Fact").filter(has_text="Prefers subtitles")).to_be_visible()
    first = found.first
    first.get_by_text("why?").click()
    expect(first.get_by_text("Alike in words")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("[data-memory]")).to_have_count(25)


def test_a_memory_is_added_corrected_and_its_history_told(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    page = made.go("Memories")
    page.get_by_role("button", name="Add a memory").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Remember").click()
    expect(dialog.get_by_text("Write at least one of the three.")).to_be_visible()
    dialog.get_by_label("What you said or did").fill("I saw Metropolis with live music")
    dialog.get_by_role("button", name="Remember").click()
    added = card(page, "I saw Metropolis")
    expect(added).to_be_visible()
    added.get_by_role("button", name="Correct").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What you said or did").fill("I saw Nosferatu with live music")
    dialog.get_by_role("button", name="Save").click()
    changed = card(page, "I saw Nosferatu")
    expect(changed.get_by_role("button", name="Correct")).to_be_focused()
    changed.get_by_role("button", name="History").click()
    expect(changed.get_by_role("deletion").filter(has_text="Metropolis")).to_be_visible()
    expect(changed.get_by_role("insertion").filter(has_text="Nosferatu")).to_be_visible()


def test_a_memory_is_deleted_for_good_once_that_is_confirmed(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    made = visit(person)
    page = made.go("Memories")
    card(page, SAID).get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(card(page, SAID)).to_be_visible()
    card(page, SAID).get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card(page, SAID)).to_have_count(0)
    expect(page.get_by_role("status")).to_have_text("The memory is deleted.")
    with world.client(person) as web:
        left = web.get("/v1/memories", params={"limit": 200}).json()["results"]
    assert SAID not in [one["query"] for one in left]
    assert len(left) == REMEMBERED - 1


def test_what_is_kept_is_taken_along(
    visit: Callable[..., Visit], world: World, tmp_path: Path
) -> None:
    person = world.person()
    made = visit(person)
    page = made.go("My data")
    with page.expect_download() as started:
        page.get_by_role("button", name="Download my data").click()
    started.value.save_as(tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text("utf-8").splitlines()
    assert any(SAID in line for line in lines)
    assert all(json.loads(line) for line in lines)


def test_who_is_forgotten_sees_first_what_would_go_and_gets_a_receipt(
    visit: Callable[..., Visit], world: World, tmp_path: Path
) -> None:
    person = world.person()
    world.aligned(person)
    made = visit(person)
    page = made.go("My data")
    page.get_by_role("button", name="See what would go").click()
    expect(
        page.locator("#forget").get_by_role("row").filter(has_text="memories").first
    ).to_be_visible()
    with world.client(person) as web:
        assert web.get("/v1/memories").json()["results"], "a look deletes nothing"
    page.get_by_role("button", name="Forget me…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Forget").click()
    expect(dialog.get_by_text(f"Type {person.user} to go on.")).to_be_visible()
    dialog.get_by_label(f"Type {person.user} to confirm").fill(person.user)
    dialog.get_by_role("button", name="Forget").click()
    receipt = page.locator("#receipt")
    expect(receipt).to_be_visible()
    with page.expect_download() as started:
        receipt.get_by_role("button", name="Download the receipt").click()
    started.value.save_as(tmp_path / "receipt.json")
    told = json.loads((tmp_path / "receipt.json").read_text("utf-8"))
    assert told["dry_run"] is False
    assert told["rows"]["events"] == REMEMBERED
    assert person.user not in json.dumps(told)
    with world.running.client(world.running.key("many-users")) as web:
        asked = {"user_id": person.user}
        assert web.get("/v1/memories", params=asked).json()["results"] == []
    expect(receipt).to_contain_text("Your key went, too, and you are signed out.")
    page.get_by_role("link", name="Sign in with another key").click()
    expect(page.get_by_label("Your key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0

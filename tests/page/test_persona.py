"""About me and the timeline: see, question, correct, lock, align, compare, go back."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.page.visit import Visit
from tests.page.world import World


def line(page: Page, text: str) -> Locator:
    """Return the item of a persona line."""
    return page.locator("#persona > li").filter(has_text=text)


def test_a_line_shows_the_memories_that_it_rests_on(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    world.aligned(person)
    page = visit(person).page
    noir = line(page, "Rates noir")
    expect(noir).to_contain_text("rests on")
    noir.get_by_role("button", name="Why?").click()
    expect(noir.get_by_text("The memories it rests on")).to_be_visible()
    with world.client(person) as web:
        told = web.get(f"/v1/users/{person.user}/persona").json()["lines"]
        (found,) = [one for one in told if one["text"].startswith("Rates noir")]
        proof = web.get(f"/v1/memories/{found['evidence'][-1]}").json()
    shown = noir.get_by_role("listitem")
    expect(shown).to_have_count(len(found["evidence"]))
    expect(shown.filter(has_text=proof["query"])).to_have_count(1)


def test_facts_say_how_sure_they_are(visit: Callable[..., Visit], world: World) -> None:
    person = world.person()
    world.learned(person, 3)
    page = visit(person).page
    fact = page.locator("#facts").get_by_role("listitem").filter(has_text="Lives in Lisbon")
    expect(fact).to_contain_text("90% sure")
    expect(fact).to_contain_text("from 1 memory")


def test_a_line_is_added_edited_and_removed(visit: Callable[..., Visit], world: World) -> None:
    page = visit(world.person()).page
    page.get_by_label("A line of your own").fill("Walks out of films that are dubbed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The line is added.")
    own = line(page, "Walks out of films that are dubbed")
    expect(own).to_contain_text("written by you")
    own.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What should it say?").fill("Sees films in their own language")
    dialog.get_by_role("button", name="Save").click()
    edited = line(page, "Sees films in their own language")
    expect(edited.get_by_role("button", name="Edit")).to_be_focused()
    expect(own).to_have_count(0)
    edited.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(edited).to_have_count(0)


def test_what_cannot_be_a_line_is_refused_in_words_and_not_lost(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    made.expects(400)
    page = made.page
    page.get_by_label("A line of your own").fill("visit https://films.example")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#new-line-error")).not_to_be_empty()
    expect(page.get_by_label("A line of your own")).to_have_value("visit https://films.example")


def test_a_locked_line_survives_and_is_no_longer_offered_for_change(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    made = visit(person)
    page = made.page
    page.get_by_label("A line of your own").fill("Sits in the third row")
    page.keyboard.press("Enter")
    own = line(page, "Sits in the third row")
    own.get_by_role("button", name="Lock").click()
    expect(own.get_by_text("Locked", exact=True)).to_be_visible()
    expect(own.get_by_role("button", name="Edit")).to_have_count(0)
    world.aligned(person)
    page.reload()
    expect(own.get_by_text("Locked", exact=True)).to_be_visible()
    own.get_by_role("button", name="Unlock").click()
    expect(own.get_by_role("button", name="Edit")).to_be_visible()


def test_a_change_of_what_somebody_else_changed_shows_the_latest_first(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    made = visit(person)
    made.expects(409)
    page = made.page
    with world.client(person) as web:
        changed = web.put(f"/v1/users/{person.user}/persona", json={"lines": ["Likes matinees"]})
        assert changed.is_success
    page.get_by_label("A line of your own").fill("Sits in the third row")
    page.keyboard.press("Enter")
    expect(page.get_by_text("It was changed meanwhile")).to_be_visible()
    expect(line(page, "Likes matinees")).to_be_visible()


def test_an_alignment_is_followed_and_its_end_is_told(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    made = visit(person)
    page = made.page
    with world.learning.held():
        page.get_by_role("button", name="Align now").click()
        expect(page.locator("#align-told")).to_contain_text("put to the model so far")
        expect(page.get_by_role("progressbar")).to_be_visible()
        page.reload()  # it goes on meanwhile, and is followed again
        expect(page.locator("#align-told")).to_contain_text("put to the model so far")
    result = page.locator("#align-result")
    expect(result).to_contain_text("Accepted: version 2 is in use")
    expect(result.get_by_role("listitem").filter(has_text="Rates noir")).to_contain_text("+ Added")
    expect(result.get_by_role("row").filter(has_text="Likelihood")).to_be_visible()
    expect(page.locator("#persona-version")).to_contain_text("Version 2")
    expect(line(page, "Rates noir")).to_be_visible()


def test_an_alignment_that_finds_nothing_better_says_that_nothing_changed(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    world.aligned(person)
    world.rates_more(person)
    page = visit(person).page
    page.get_by_role("button", name="Align now").click()
    expect(page.locator("#align-result")).to_contain_text("Refused: your persona stays as it is")
    expect(page.locator("#persona-version")).to_contain_text("Version 2")


def test_an_alignment_with_too_little_to_go_by_says_what_is_missing(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.stranger()
    with world.client(person) as web:
        memories = [{"query": f"Film {i}", "outcome": str(1 + i % 5)} for i in range(6)]
        assert web.post("/v1/memories", json={"memories": memories}).is_success
    page = visit(person).page
    page.get_by_role("button", name="Align now").click()
    result = page.locator("#align-result")
    expect(result).to_contain_text("It could not be done")
    expect(result).to_contain_text("aligning needs 26")


def test_versions_are_compared_and_an_earlier_one_is_taken_back(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    world.aligned(person)
    made = visit(person)
    page = made.go("Timeline")
    second = page.locator("[data-version='2']")
    expect(second).to_contain_text("In use")
    expect(second).to_contain_text("Gain +")
    second.get_by_text("What changed").click()
    expect(second.get_by_role("listitem").filter(has_text="Rates noir")).to_contain_text("+ Added")
    page.get_by_label("From", exact=True).select_option("Version 2")
    page.get_by_label("To", exact=True).select_option("Version 1")
    page.get_by_role("button", name="Compare").click()
    gone = page.locator("#comparison").get_by_role("listitem").filter(has_text="Rates noir")
    expect(gone).to_contain_text("− Removed")
    page.get_by_role("button", name="Go back to version 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Go back").click()
    expect(page.get_by_role("status")).to_contain_text("version 1 are in use again, as version 3")
    made.go("About me")
    expect(page.locator("#persona-version")).to_contain_text("Version 3")
    expect(line(page, "Rates noir")).to_have_count(0)


def test_who_is_new_is_told_how_to_begin(visit: Callable[..., Visit], world: World) -> None:
    made = visit(world.stranger())
    expect(made.page.get_by_text("Nothing is known about you yet")).to_be_visible()
    made.go("Timeline")
    expect(made.page.get_by_text("There are no versions yet")).to_be_visible()

"""Chat and recommendations: answers that say what they knew, offers that say why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.model import ANSWER, BROKEN
from tests.page.visit import Visit, visiting
from tests.page.world import World
from tests.page.world import world as a_world

SAID = "Subtitles are fine, dubbing is not."


def say(page: Page, words: str) -> Locator:
    """Send a message and return the answer, when it has ended."""
    page.get_by_label("Your message").fill(words)
    page.get_by_role("button", name="Send").click()
    answer = page.locator("#talk > .it").last
    expect(page.locator("#talk > .me").last).to_contain_text(words)
    expect(page.locator("#talk > [aria-busy=true]")).to_have_count(0)
    return answer


def test_an_answer_says_which_memories_and_which_persona_it_was_given(
    visit: Callable[..., Visit], world: World
) -> None:
    person = world.person()
    world.aligned(person)
    made = visit(person)
    answer = say(made.go("Chat"), "Which film with subtitles, no dubbing?")
    expect(answer).to_contain_text(ANSWER)
    used = answer.locator("[data-used=used]")
    used.locator("summary").click()
    expect(used.locator("summary")).to_contain_text("version 2 of your persona")
    expect(used.get_by_text(SAID)).to_be_visible()
    answer.get_by_role("button", name="Good answer").click()
    expect(answer.get_by_role("button", name="Good answer")).to_have_attribute(
        "aria-pressed", "true"
    )
    world.running.settle()
    page = made.go("Memories")
    newest = page.locator("[data-memory]").first
    expect(newest).to_contain_text("Which film with subtitles, no dubbing?")
    expect(newest).to_contain_text("accepted")


def test_the_talk_is_there_when_one_comes_back_and_goes_when_it_is_told_to(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    say(made.go("Chat"), "Hello")
    made.go("About me")
    page = made.go("Chat")
    expect(page.locator("#talk > .it")).to_contain_text(ANSWER)
    page.get_by_role("button", name="New talk").click()
    expect(page.locator("#talk > li")).to_have_count(0)


def test_an_answer_that_came_without_memory_says_so(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    page = made.go("Chat")
    page.get_by_label("Memory").select_option("Neither")
    expect(say(page, "Hello")).to_contain_text("Your memory was not asked.")
    page.get_by_label("Memory").select_option("Use my memory, remember nothing")
    world.embedder.is_broken = True
    try:
        answer = say(page, "Hello again")
    finally:
        world.embedder.is_broken = False
    expect(answer).to_contain_text(ANSWER)
    expect(answer).to_contain_text("This answer came without memory")


def test_a_model_that_fails_is_told_in_words(visit: Callable[..., Visit], world: World) -> None:
    made = visit(world.person())
    made.expects(502)
    answer = say(made.go("Chat"), f"Please {BROKEN}")
    expect(answer).to_contain_text("The model behind this server failed.")
    expect(say(made.page, "And now?")).to_contain_text(ANSWER)


def test_an_answer_can_be_stopped(browser: Browser, tmp_path: Path) -> None:
    with (
        a_world(tmp_path, recommends=False, pause_s=2) as slow,
        visiting(browser, slow.url) as made,
    ):
        made.sign_in(slow.stranger().key)
        page = made.go("Chat")
        page.get_by_label("Your message").fill("Hello")
        page.keyboard.press("Enter")
        expect(page.locator("#talk > .it .words")).to_contain_text("You")
        page.get_by_role("button", name="Stop").click()
        answer = page.locator("#talk > .it")
        expect(answer).to_contain_text("Stopped.")
        expect(answer).not_to_contain_text("subtitles")


def test_recommendations_say_why_and_can_be_narrowed(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    made.expects(400)
    page = made.go("For you")
    offers = page.locator("[data-item]")
    expect(offers.first).to_be_visible()
    page.get_by_label("Genres, by commas").fill("documentary")
    page.get_by_role("button", name="Suggest").click()
    expect(offers.filter(has_not_text="documentary")).to_have_count(0)
    expect(offers.first).to_be_visible()
    offers.first.get_by_role("button", name="How it was found").click()
    expect(offers.first.get_by_text("made of:")).to_be_visible()
    expect(offers.first.locator(".reasons > li").first).to_be_visible()
    page.get_by_label("Genres, by commas").fill("opera")
    page.get_by_role("button", name="Suggest").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no genre")


def test_a_server_without_a_recommender_says_so(browser: Browser, tmp_path: Path) -> None:
    with (
        a_world(tmp_path, recommends=False) as plain,
        visiting(browser, plain.url) as made,
    ):
        made.sign_in(plain.stranger().key)
        expect(made.go("For you").get_by_text("This server has no recommender")).to_be_visible()

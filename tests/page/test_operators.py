"""The operators' section: who is known, what waits and what was given up, health, cost, keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.visit import Visit, visiting
from tests.page.world import REMEMBERED, TROUBLED, World
from tests.page.world import world as a_world


@pytest.fixture
def operator(visit: Callable[..., Visit], world: World) -> Visit:
    """A visit of an operator who may act for many, and has not named anybody."""
    made = visit()
    made.page.goto(f"{world.url}/#operators")
    made.sign_in(world.running.key("operator"))
    return made


def view(visit: Visit, name: str) -> Page:
    """Go to an operators' view."""
    views = visit.page.get_by_role("navigation", name="Operators' views")
    views.get_by_role("link", name=name, exact=True).click()
    expect(visit.page.get_by_role("heading", level=2, name=name, exact=True)).to_be_visible()
    visit.settled()
    return visit.page


def row(page: Page, name: str) -> list[str]:
    """Return the cells of the row of a thing."""
    found = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))
    return [cell.inner_text() for cell in found.get_by_role("cell").all()]


def test_users_are_listed_with_what_is_known_of_each_and_found_by_how_they_begin(
    operator: Visit, world: World
) -> None:
    ann, other = world.person("zoe"), world.person("zacharias")
    world.learned(ann, 3)
    world.aligned(ann)
    page = view(operator, "Users")
    page.get_by_label("Ids that begin with").fill("zo")
    page.get_by_role("button", name="Find").click()
    shown = page.locator("#users-shown")
    expect(shown).to_have_text("1 user")
    memories, facts, persona, *_ = row(page, ann.user)
    assert (memories, facts) == (str(REMEMBERED), "3")
    assert persona.startswith("version")
    assert page.get_by_text(other.user).count() == 0
    page.get_by_label("Ids that begin with").fill("nobody-")
    page.keyboard.press("Enter")
    expect(shown).to_have_text("No user's id begins with “nobody-”.")


def test_more_users_come_when_they_are_asked_for(operator: Visit, world: World) -> None:
    with world.running.client(world.running.key("many-users")) as web:
        for number in range(53):
            note = {"memories": [{"query": "tea"}], "user_id": f"many-{number:02}"}
            assert web.post("/v1/memories", json=note).is_success
    page = view(operator, "Users")
    page.get_by_label("Ids that begin with").fill("many-")
    page.get_by_role("button", name="Find").click()
    shown = page.locator("#users-shown")
    expect(shown).to_have_text("50 users, and there are more")
    page.get_by_role("button", name="Show more").click()
    expect(shown).to_have_text("53 users")
    expect(page.get_by_role("rowheader", name="many-50")).to_be_focused()
    assert page.get_by_role("row").count() == 54


def test_a_job_that_was_given_up_says_why_and_runs_again(operator: Visit, world: World) -> None:
    page = view(operator, "Jobs")
    page.get_by_label("Show").select_option("dead")
    expect(page.get_by_label("Show")).to_be_focused()
    assert "BackendTimeout: the model did not answer in 120 s" in row_of_job(page)
    page.get_by_role("button", name=f"Run again for {TROUBLED}").click()
    expect(page.get_by_role("status")).to_have_text("1 job runs again.")
    expect(page.get_by_role("button", name="Run again")).to_have_count(0)


def row_of_job(page: Page) -> str:
    found = page.get_by_role("row").filter(has=page.get_by_role("cell", name=TROUBLED, exact=True))
    return found.inner_text()


def test_health_says_what_works_and_what_does_not(operator: Visit, world: World) -> None:
    page = view(operator, "Health")
    expect(page.locator("#ready")).to_have_text("Ready. Chats are answered and remembered.")
    world.model.is_away = True
    try:
        operator.expects(503)
        page.get_by_role("button", name="Refresh").click()
        expect(page.locator("#ready")).to_contain_text("Not ready.")
        parts = page.get_by_role("list", name="Parts").get_by_role("listitem")
        expect(parts.filter(has_text="Model")).to_contain_text("Fails")
        expect(parts.filter(has_text="Model")).to_contain_text(
            "the model behind this server failed"
        )
        expect(parts.filter(has_text="Store")).to_contain_text("Works")
    finally:
        world.model.is_away = False
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#ready")).to_have_text("Ready. Chats are answered and remembered.")


def test_health_goes_without_figures_that_are_off(browser: Browser, tmp_path: Path) -> None:
    with (
        a_world(tmp_path, recommends=False, metrics=False) as plain,
        visiting(browser, plain.url) as made,
    ):
        made.expects(404)
        made.page.goto(f"{plain.url}/#operators")
        made.sign_in(plain.running.key("operator"))
        expect(made.page.locator("#ready")).to_contain_text("Ready.")
        expect(made.page.get_by_text("Figures are off on this server")).to_be_visible()


def test_cost_is_what_alignments_asked_of_the_model(operator: Visit, world: World) -> None:
    ann = world.person()
    result = world.aligned(ann)["result"]
    page = view(operator, "Cost")
    _, requests, tokens, *_ = row(page, ann.user)
    assert requests == f"{result['usage']['requests']:,}"
    assert tokens == f"{result['usage']['prompt_tokens']:,}"


def test_keys_are_listed_without_their_secrets(operator: Visit, world: World) -> None:
    ann = world.stranger("kim")
    (key,) = [one for one in world.running.service.keys.list("default") if one.user == ann.user]
    page = view(operator, "Keys")
    assert row(page, key.id)[1:3] == [ann.user, "its own user"]
    world.running.service.keys.revoke(key.id, datetime.now(UTC))
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("row").filter(has_text=key.id)).to_contain_text("Revoked")
    assert ann.key not in page.content()


def test_who_may_act_for_many_opens_a_memory_from_the_list(
    visit: Callable[..., Visit], world: World
) -> None:
    ann = world.person("yan")
    made = visit()
    made.page.goto(f"{world.url}/#operators/users")
    made.sign_in(world.running.key("operator", "many-users"))
    made.settled()
    made.page.get_by_label("Ids that begin with").fill(ann.user)
    made.page.get_by_role("button", name="Find").click()
    made.page.get_by_role("button", name=f"Open the memory of {ann.user}").click()
    expect(made.heading("About me")).to_be_visible()
    made.settled()
    expect(made.page.locator("#person")).to_have_text(ann.user)


def test_a_persons_key_opens_no_operators_section(
    visit: Callable[..., Visit], world: World
) -> None:
    made = visit(world.person())
    expect(made.page.get_by_role("link", name="Operators")).to_have_count(0)
    made.page.goto(f"{world.url}/#operators/users")
    expect(made.heading("About me")).to_be_visible()
    made.settled()

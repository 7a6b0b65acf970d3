"""Logging in and out in a browser, with a keyboard alone, and without scripts."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.store.logins import OF_ONE
from tests.browser.conftest import IN_A_BROWSER, log_in
from tests.support.logins import ACTING

pytestmark = IN_A_BROWSER

PAGES = ("/", "/transactions/pkg-1", "/attention", "/events", "/events/1", "/callbacks", "/callbacks/2", "/handlers")
ALL_PAGES = (*PAGES, "/health", "/handlers/replay", "/api/")
# Everything that can be reached by Tab, and how it is marked when it is; a row is marked around its link.
MARKED = """() => {
  const one = document.activeElement;
  const marks = [getComputedStyle(one), getComputedStyle(one, "::after")];
  const seen = marks.some((it) => it.outlineStyle !== "none" && parseFloat(it.outlineWidth) >= 2);
  return { what: one.outerHTML.slice(0, 200), body: one === document.body, seen };
}"""
REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter(
  (one) => !one.disabled && one.type !== "hidden" && one.checkVisibility()).length"""


@pytest.fixture
def stranger(installation, visit) -> Page:
    """The page of somebody who has not logged in."""
    return visit(installation.address)


def fill_in(page: Page, password: str) -> None:
    """Send the form."""
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_one_logs_in_is_where_one_wanted_to_be_and_logs_out_again(stranger):
    """After that there is no way back to the pages, not even the browser's."""
    stranger.goto("/transactions/pkg-1?x=1")
    expect(stranger.get_by_label("Password")).to_be_focused()
    stranger.get_by_label("Your name").fill("Mia")
    fill_in(stranger, ACTING)
    expect(stranger).to_have_url(re.compile("/transactions/pkg-1.x=1$"))
    expect(stranger.locator("header")).to_contain_text("Mia")

    stranger.get_by_role("button", name="Log out").click()

    expect(stranger.get_by_role("heading", name="Log in")).to_be_visible()
    stranger.go_back()
    expect(stranger.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_wrong_password_is_said_and_too_many_are_refused(stranger, complaints):
    """With how long to wait; the right one is then refused as well."""
    complaints.forgive("401|429")
    stranger.goto("/login")
    for _ in range(OF_ONE):
        fill_in(stranger, "wrong")
        expect(stranger.get_by_role("alert")).to_have_text("That is not the password.")
    expect(stranger.get_by_label("Password")).to_have_attribute("aria-describedby", "problem")

    fill_in(stranger, ACTING)

    expect(stranger.locator("main")).to_contain_text("Too many wrong passwords. Try again in 15 minutes.")


def test_a_form_without_its_token_changes_nothing_and_says_what_to_do(page, installation, complaints):
    """As if it came from another site."""
    complaints.forgive("400")
    page.goto("/transactions/pkg-1")

    with page.expect_navigation() as answer:
        page.locator("form[action$='/read']").evaluate("it => { it.csrf_token.value = 'forged'; it.submit(); }")

    assert answer.value.status == 400
    expect(page.locator("main")).to_contain_text("Reload the page, and try again.")


def test_the_keyboard_leads_everywhere_and_shows_where_one_is(page, installation, broken):
    """On every page Tab reaches all that can be used, and each is marked while one is there."""
    broken.add("PACKAGE_DECLINE")
    installation.act("decline", role=0, text="Too expensive.")
    installation.settled()
    for path in ALL_PAGES:
        page.goto(path)
        wanted, reached = page.evaluate(REACHABLE), []
        page.locator("body").evaluate("body => { document.activeElement.blur(); }")
        while len(reached) <= wanted + 5:
            page.keyboard.press("Tab")
            here = page.evaluate(MARKED)
            if here["body"] or here["what"] in reached[:1]:
                break
            assert here["seen"], (path, here["what"])
            reached.append(here["what"])
        assert len(reached) >= wanted, (path, wanted, reached)


def test_one_jumps_to_the_content_to_the_search_and_into_a_row(page):
    """By the first Tab, by a slash, and by Enter; a slash that is typed is a slash."""
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    page.keyboard.press("/")
    find = page.get_by_label("Search")
    expect(find).to_be_focused()
    page.keyboard.type("a/b")
    expect(find).to_have_value("a/b")
    page.keyboard.press("Control+a")
    page.keyboard.type("mill")
    expect(page).to_have_url(re.compile("q=mill$"))
    page.get_by_role("link", name="Lease of the mill").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/transactions/pkg-1$"))


def test_a_row_is_opened_wherever_one_points_at_it(page):
    """Not only at the name."""
    page.goto("/")

    last = page.locator("tbody tr td").last.bounding_box()
    page.mouse.click(last["x"] + last["width"] - 4, last["y"] + last["height"] - 4)

    expect(page).to_have_url(re.compile("/transactions/pkg-1$"))


def test_without_scripts_all_is_there_but_that_it_changes_by_itself(installation, visit, broken):
    """Logging in, every page with its times in UTC, searching, and acting."""
    broken.add("PACKAGE_DECLINE")
    installation.act("decline", role=0, text="Too expensive.")
    installation.settled()
    page = visit(installation.address, java_script_enabled=False)
    page.goto("/")
    fill_in(page, ACTING)
    for path in ALL_PAGES:
        assert page.goto(path).status == 200, path
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert [one for one in page.locator("time").all_inner_texts() if not one.endswith(" UTC")] == []

    page.goto("/")
    page.get_by_label("Search").fill("nothing like that")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="No transaction is like that")).to_be_visible()
    page.goto("/transactions/pkg-1")
    expect(page.locator("main")).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"))
    broken.clear()
    page.get_by_role("button", name="Replay tell_the_crm for PACKAGE_DECLINE").click()
    expect(page.get_by_text("It runs again;")).to_be_visible()


def test_times_are_the_viewers_and_utc_on_hover(page, installation):
    """In Brussels, in the year's half that has winter time or summer time."""
    installation.tell("DOCUMENT_VIEWED", createdDate="2026-07-01T10:00:00.000Z", documentId="doc-1")
    installation.settled()
    page.goto("/events/1")

    happened = page.locator("dl.facts time").first

    expect(happened).to_have_text(re.compile("1 Jul(y)? 2026, 12:00:00"))
    expect(happened).to_have_attribute("title", re.compile(r"here\s+2026-07-01 10:00:00(\.0+)? UTC"))


def test_two_people_act_under_their_own_names(installation, visit, page):
    """Each sees who they are."""
    other = log_in(visit(installation.address), name="Kim <b>")

    other.goto("/")
    page.goto("/")

    expect(other.locator("header bdi")).to_have_text("Kim <b>")
    expect(page.locator("header bdi")).to_have_text("Mia")

"""Login and logout in a browser, keyboard use, and pages without scripts."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.store.login_limit import MAX_FAILURES_PER_ADDRESS
from tests.browser.conftest import IN_A_BROWSER, log_in
from tests.support.logins import PASSWORD

pytestmark = IN_A_BROWSER

PAGES = ("/", "/transactions/pkg-1", "/attention", "/events", "/events/1", "/callbacks", "/callbacks/2", "/handlers")
ALL_PAGES = (*PAGES, "/health", "/handlers/replay", "/api/")
# A script that returns the focused element and whether an outline marks it. The outline of a row belongs to its link.
FOCUSED = """() => {
  const node = document.activeElement;
  const styles = [getComputedStyle(node), getComputedStyle(node, "::after")];
  const outlined = styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
  return { html: node.outerHTML.slice(0, 200), body: node === document.body, outlined };
}"""
# A script that returns the number of elements that the Tab key must reach.
REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter(
  (node) => !node.disabled && node.type !== "hidden" && node.checkVisibility()).length"""


@pytest.fixture
def new_page(live_service, visit) -> Page:
    """A browser page without a session."""
    return visit(live_service.address)


def fill_in(page: Page, password: str) -> None:
    """Fill in the login form and send it."""
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_login_returns_to_the_requested_page_and_logout_ends_it(new_page):
    """A login returns to the requested page, and after the logout the browser's Back button shows the login form."""
    new_page.goto("/transactions/pkg-1?x=1")
    expect(new_page.get_by_label("Password")).to_be_focused()
    new_page.get_by_label("Your name").fill("Mia")
    fill_in(new_page, PASSWORD)
    expect(new_page).to_have_url(re.compile("/transactions/pkg-1.x=1$"))
    expect(new_page.locator("header")).to_contain_text("Mia")

    new_page.get_by_role("button", name="Log out").click()

    expect(new_page.get_by_role("heading", name="Log in")).to_be_visible()
    new_page.go_back()
    expect(new_page.get_by_role("heading", name="Log in")).to_be_visible()


def test_wrong_password_shows_an_error_and_too_many_are_refused(new_page, page_errors):
    """After too many wrong passwords, the page says how long to wait and the correct password is refused as well."""
    page_errors.allow("401|429")
    new_page.goto("/login")
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        fill_in(new_page, "wrong")
        expect(new_page.get_by_role("alert")).to_have_text("Incorrect password.")
    expect(new_page.get_by_label("Password")).to_have_attribute("aria-describedby", "problem")

    fill_in(new_page, PASSWORD)

    expect(new_page.locator("main")).to_contain_text("Too many incorrect passwords. Try again in 15 minutes.")


def test_form_with_a_forged_token_changes_nothing(page, live_service, page_errors):
    """A form with a forged CSRF token changes nothing, and the page says what to do."""
    page_errors.allow("400")
    page.goto("/transactions/pkg-1")

    with page.expect_navigation() as answer:
        page.locator("form[action$='/read']").evaluate("form => { form.csrf_token.value = 'forged'; form.submit(); }")

    assert answer.value.status == 400
    expect(page.locator("main")).to_contain_text("Reload the page and try again.")


def test_tab_reaches_every_control_and_outlines_it(page, live_service, failing_events):
    """On every page, the Tab key reaches every control, and an outline marks the focused control."""
    failing_events.add("PACKAGE_DECLINE")
    live_service.act("decline", role=0, text="Too expensive.")
    live_service.wait_until_idle()
    for path in ALL_PAGES:
        page.goto(path)
        wanted, reached = page.evaluate(REACHABLE), []
        page.locator("body").evaluate("body => { document.activeElement.blur(); }")
        while len(reached) <= wanted + 5:
            page.keyboard.press("Tab")
            focused = page.evaluate(FOCUSED)
            if focused["body"] or focused["html"] in reached[:1]:
                break
            assert focused["outlined"], (path, focused["html"])
            reached.append(focused["html"])
        assert len(reached) >= wanted, (path, wanted, reached)


def test_keyboard_jumps_to_content_search_and_row(page):
    """The first Tab, a slash and Enter lead to content, search and a row; in a text field a slash is only typed."""
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    page.keyboard.press("/")
    search = page.get_by_label("Search")
    expect(search).to_be_focused()
    page.keyboard.type("a/b")
    expect(search).to_have_value("a/b")
    page.keyboard.press("Control+a")
    page.keyboard.type("mill")
    expect(page).to_have_url(re.compile("q=mill$"))
    page.get_by_role("link", name="Lease of the mill").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/transactions/pkg-1$"))


def test_click_anywhere_in_a_row_opens_it(page):
    """A click anywhere in a table row opens its transaction, not only a click on the name."""
    page.goto("/")

    last = page.locator("tbody tr td").last.bounding_box()
    page.mouse.click(last["x"] + last["width"] - 4, last["y"] + last["height"] - 4)

    expect(page).to_have_url(re.compile("/transactions/pkg-1$"))


def test_pages_work_without_scripts(live_service, visit, failing_events):
    """Without scripts, login, search and actions work and times are in UTC, but pages do not update themselves."""
    failing_events.add("PACKAGE_DECLINE")
    live_service.act("decline", role=0, text="Too expensive.")
    live_service.wait_until_idle()
    page = visit(live_service.address, java_script_enabled=False)
    page.goto("/")
    fill_in(page, PASSWORD)
    for path in ALL_PAGES:
        assert page.goto(path).status == 200, path
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert [text for text in page.locator("time").all_text_contents() if not text.strip().endswith(" UTC")] == []

    page.goto("/")
    page.get_by_label("Search").fill("nothing like that")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="No transactions match your search and filters.")).to_be_visible()
    page.goto("/transactions/pkg-1")
    expect(page.locator("main")).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"))
    failing_events.clear()
    page.get_by_role("button", name="Run again tell_the_crm for PACKAGE_DECLINE").click()
    expect(page.get_by_text("Running again.")).to_be_visible()


def test_times_are_local_with_utc_in_the_tooltip(page, live_service):
    """A browser in Brussels shows a time in local summer time, with UTC in the tooltip."""
    live_service.callback("DOCUMENT_VIEWED", createdDate="2026-07-01T10:00:00.000Z", documentId="doc-1")
    live_service.wait_until_idle()
    page.goto("/events/1")

    happened = page.locator("dl.details time").first

    expect(happened).to_have_text(re.compile("1 Jul(y)? 2026, 12:00:00"))
    expect(happened).to_have_attribute("title", re.compile(r"local time\s+2026-07-01 10:00:00(\.0+)? UTC"))


def test_header_shows_the_name_of_the_user(live_service, visit, page):
    """Two users who are logged in at the same time each see their own name in the header."""
    other = log_in(visit(live_service.address), name="Kim <b>")

    other.goto("/")
    page.goto("/")

    expect(other.locator("header bdi")).to_have_text("Kim <b>")
    expect(page.locator("header bdi")).to_have_text("Mia")

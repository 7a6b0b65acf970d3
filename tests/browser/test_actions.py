"""Transactions, issues, handlers and syncs: what users see and what they can do."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from app.store import queries
from tests.browser.conftest import IN_A_BROWSER, log_in
from tests.browser.live_service import ADA, lease
from tests.conftest import TOKEN
from tests.support.logins import VIEW_ONLY_PASSWORD

pytestmark = IN_A_BROWSER

MANY = 3


def test_transaction_page_shows_signers_documents_and_history(page, live_service):
    """In the history of a transaction, each event links to its raw callback."""
    live_service.act("sign", role=0)
    page.goto("/transactions/pkg-1")

    signers = page.locator("ol.signers > li")
    expect(signers).to_have_count(2)
    expect(signers.nth(0)).to_contain_text("Signed")
    expect(signers.nth(1)).to_contain_text("Waiting for signature")
    expect(page.get_by_role("row", name="The lease")).to_contain_text("signed")
    entry = page.locator(".timeline > li", has_text="Ada Abel signed The lease")
    expect(entry).to_contain_text("Reported by OneSpan (callback)")
    entry.get_by_role("link", name="callback").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Callback")
    expect(page.locator("#body")).to_contain_text('"name": "DOCUMENT_SIGNED"')
    expect(page.locator("dl.details")).to_contain_text("DOCUMENT_SIGNED")


def test_raw_callback_can_be_copied(page, live_service):
    """A button copies the body of a raw callback and confirms the copy."""
    live_service.callback("PACKAGE_ARCHIVE")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/callbacks")
    page.locator("tbody a.title").first.click()

    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert '"name": "PACKAGE_ARCHIVE"' in page.evaluate("navigator.clipboard.readText()")


def test_refresh_reads_the_transaction_from_onespan(page, live_service):
    """A refresh shows a new name, which no event reports. A link leads to the transaction in OneSpan."""
    page.goto("/transactions/pkg-1")
    live_service.act_without_callbacks("rename", text="Lease of the barn")

    page.get_by_role("button", name="Refresh from OneSpan").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Lease of the barn")
    expect(page).to_have_title("Lease of the barn · OneSpan Sign receiver")
    link = page.get_by_role("link", name="Open in OneSpan")
    assert re.fullmatch(r"http://127.0.0.1:\d+/a/transaction/pkg-1", link.get_attribute("href"))


LEASES = [lease(f"pkg-{number}", name=f"Lease {number}") for number in range(1, 8)]


@pytest.mark.parametrize("packages", [LEASES], ids=["seven"])
def test_issues_are_grouped_with_advice(page, live_service, failing_events):
    """Issues appear on the open attention page by themselves, with advice and the signer or handler."""
    failing_events.add("PACKAGE_ARCHIVE")
    page.goto("/attention")
    expect(page.get_by_role("heading", name="Nothing needs attention")).to_be_visible()

    live_service.act("lock", package="pkg-1", role=0)
    live_service.act("fail kba", package="pkg-2", role=0)
    live_service.act("bounce", package="pkg-3", role=0, text="BOUNCE")
    live_service.callback("PACKAGE_READY_FOR_COMPLETE", package="pkg-4")
    live_service.act("decline", package="pkg-5", role=0, text="Too expensive.")
    live_service.act("expire", package="pkg-6")
    live_service.callback("PACKAGE_ARCHIVE", package="pkg-7")

    for title, text in GROUPS.items():
        group = page.get_by_role("region", name=title)
        expect(group.locator("tbody tr")).to_have_count(1)
        expect(group.locator("tbody")).to_contain_text(text)
        expect(group.locator(".advice")).not_to_be_empty()
    expect(page.get_by_role("link", name=re.compile("Needs attention"))).to_contain_text("7 open")


GROUPS = {
    "Locked out": "Ada Abel",
    "Identity check failed": "Ada Abel",
    "Email bounced": "Address rejected the email",
    "Ready to complete": "Lease 4",
    "Declined": "Too expensive.",
    "Expired": "Lease 6",
    "Automation stopped": "tell_the_crm",
}


def test_resolved_issues_disappear(page, live_service):
    """An issue disappears when a callback or a refresh shows that it is resolved."""
    page.goto("/attention")
    live_service.act("decline", role=0, text="Too expensive.")
    expect(page.get_by_role("region", name="Declined")).to_be_visible()
    live_service.act("activate")
    expect(page.get_by_role("heading", name="Nothing needs attention")).to_be_visible()

    live_service.act("lock", role=0)
    expect(page.get_by_role("region", name="Locked out")).to_contain_text(ADA.name)
    live_service.act_without_callbacks("unlock", role=0)
    other = page.context.new_page()
    other.goto("/transactions/pkg-1")
    other.get_by_role("button", name="Refresh from OneSpan").click()
    expect(page.get_by_role("heading", name="Nothing needs attention")).to_be_visible()


def handlers_link(page: Page) -> Locator:
    """The link to the handlers in the navigation, which shows the number of failed runs."""
    return page.get_by_role("navigation", name="Pages").get_by_role("link", name="Handlers")


def test_failed_run_is_run_again_and_the_history_names_the_user(page, live_service, failing_events):
    """An open page shows a failed run, which the user runs again with success once the cause is fixed."""
    page.goto("/transactions/pkg-1")
    failing_events.add("PACKAGE_ARCHIVE")
    live_service.callback("PACKAGE_ARCHIVE")
    expect(page.locator("main")).to_contain_text("The CRM does not know PACKAGE_ARCHIVE.")
    expect(handlers_link(page)).to_contain_text("1 failed")

    failing_events.clear()
    page.get_by_role("button", name="Run again tell_the_crm for PACKAGE_ARCHIVE").click()

    expect(page.get_by_role("status").filter(has_text="Running again.")).to_be_visible()
    expect(page.locator("main")).to_contain_text("All handlers finished.")
    expect(handlers_link(page)).to_have_text("Handlers")
    answer = page.request.get("/api/packages/pkg-1/history", headers={"Authorization": f"Bearer {TOKEN}"})
    causes = [change["cause"] for change in answer.json()["items"]]
    assert {"kind": "person", "id": "Mia"} in causes


def test_many_failed_runs_are_run_again_after_confirmation(page, live_service, failing_events):
    """Only failed runs that match the filter run again, and only after the user confirms their number."""
    failing_events.update({"PACKAGE_ARCHIVE", "PACKAGE_TRASH"})
    for number in range(MANY):
        live_service.callback("PACKAGE_ARCHIVE", package=f"p-{number}")
    live_service.callback("PACKAGE_TRASH", package="p-0")
    page.goto("/handlers")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(MANY + 1)
    page.get_by_role("combobox", name="Event").select_option("PACKAGE_ARCHIVE")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(MANY)
    page.get_by_role("button", name="Run all of these again").click()
    expect(page.get_by_role("heading", name=f"Run {MANY} failed runs again?")).to_be_visible()
    with live_service.service.database.read() as connection:
        assert queries.pipeline_state(connection, now=live_service.clock()).dispatches["parked"] == MANY + 1

    failing_events.clear()
    page.get_by_role("button", name=f"Run {MANY} again").click()

    expect(page.get_by_text(f"{MANY} runs queued.")).to_be_visible()
    expect(handlers_link(page)).to_contain_text("1 failed")
    page.goto("/handlers")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(1)


def test_unreadable_and_unknown_callbacks_can_be_found(page, live_service):
    """Unknown events are marked, and the page of an unreadable callback gives the reason."""
    assert live_service.post(b"<callback/>") == 400
    live_service.callback("PACKAGE_NOTARIZED")
    page.goto("/events")
    expect(page.locator("tbody tr", has_text="PACKAGE_NOTARIZED")).to_contain_text("unknown")

    page.get_by_role("link", name="Raw callbacks").click()
    page.get_by_role("link", name="Unreadable").click()
    page.locator("tbody a.title").click()

    expect(page.locator("main")).to_contain_text("Ignored:")
    expect(page.locator("#body")).to_have_text("<callback/>")


def test_events_can_be_filtered_by_name_status_and_transaction(page, live_service, failing_events):
    """Each filter of the event list applies at once, and is part of the URL."""
    failing_events.add("PACKAGE_ARCHIVE")
    live_service.callback("PACKAGE_ARCHIVE")
    live_service.callback("PACKAGE_TRASH", package="pkg-2")
    page.goto("/events")
    rows = page.locator("tbody a.title")
    expect(rows).to_have_text(["PACKAGE_TRASH", "PACKAGE_ARCHIVE"])

    page.get_by_role("combobox", name="Event").select_option("PACKAGE_TRASH")
    expect(rows).to_have_text(["PACKAGE_TRASH"])
    page.get_by_role("combobox", name="Event").select_option("Any")
    page.get_by_label("Handler status").select_option("Failed")
    expect(rows).to_have_text(["PACKAGE_ARCHIVE"])
    page.get_by_label("Handler status").select_option("Any")
    page.get_by_label("Transaction ID").press_sequentially("pkg-2")
    expect(rows).to_have_text(["PACKAGE_TRASH"])
    expect(page).to_have_url(f"{live_service.address}/events?package=pkg-2")


def test_sync_can_be_started_and_followed(page, live_service):
    """The health page shows the progress of a sync, its result and the user who started it."""
    live_service.act_without_callbacks("decline", role=0, text="Too expensive.")
    page.goto("/health")
    live_service.onespan_may_answer.clear()

    page.get_by_role("button", name="Sync with OneSpan").click()

    sync = page.locator("#sync")
    expect(sync.get_by_role("progressbar", name="Sync in progress")).to_be_visible()
    expect(sync).to_contain_text("requested by Mia")
    expect(page.get_by_role("button", name="Sync with OneSpan")).to_be_disabled()
    live_service.onespan_may_answer.set()
    expect(sync).to_contain_text("Last sync just now")
    expect(sync.locator("tbody tr").first).to_contain_text("manual (Mia)")
    expect(page.get_by_role("button", name="Sync with OneSpan")).to_be_enabled()
    page.goto("/events")
    expect(page.locator("tbody tr", has_text="PACKAGE_DECLINE")).to_contain_text("Found by sync")


@pytest.mark.parametrize("packages", [[]], ids=["nothing"])
def test_new_installation_shows_the_setup_and_sends_a_test_callback(page, live_service):
    """The page of a new installation sends a test callback, which reaches the handlers as an event."""
    page.goto("/")
    expect(page.get_by_role("heading", name="Waiting for the first callback from OneSpan")).to_be_visible()
    expect(page.locator("main")).to_contain_text("/onespan/callback")

    page.get_by_role("button", name="Send a test callback").click()

    expect(page).to_have_url(f"{live_service.address}/events")
    row = page.locator("tbody tr", has_text="RECEIVER_TEST")
    expect(row).to_contain_text("all done")


def test_view_only_user_has_no_buttons_and_is_refused(live_service, visit, failing_events, page_errors):
    """The only form that a view-only user can send is the logout, and a forged request gets 403."""
    page_errors.allow("403")
    failing_events.add("PACKAGE_ARCHIVE")
    live_service.callback("PACKAGE_ARCHIVE")
    live_service.wait_until_idle()
    page = log_in(visit(live_service.address), VIEW_ONLY_PASSWORD, name="Lou")
    for path in (
        "/",
        "/transactions/pkg-1",
        "/attention",
        "/events",
        "/events/1",
        "/handlers",
        "/health",
        "/callbacks",
    ):
        page.goto(path)
        expect(page.locator("header")).to_contain_text("Lou (view only)")
        forms = page.locator("form[method=post]")
        expect(forms).to_have_count(1)
        expect(forms).to_contain_text("Log out")

    page.goto("/handlers")
    page.locator("form[action='/logout']").evaluate("form => { form.action = '/dispatches/1/replay'; }")
    with page.expect_navigation() as answer:
        page.get_by_role("button", name="Log out").click()

    assert answer.value.status == 403
    expect(page.locator("main")).to_contain_text("Your access is view-only.")

"""What people see of one transaction, of what needs a hand and of their functions, and what they do about it."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.store import queries
from tests.browser.conftest import IN_A_BROWSER, log_in
from tests.browser.live_service import ADA, lease
from tests.conftest import TOKEN

pytestmark = IN_A_BROWSER

MANY = 3


def test_a_transaction_says_where_it_stands_and_how_we_know(page, installation):
    """Whose turn it is, who signed what, and each thing that happened with its cause; the callback as it came."""
    installation.act("sign", role=0)
    page.goto("/transactions/pkg-1")

    signers = page.locator("ol.signers > li")
    expect(signers).to_have_count(2)
    expect(signers.nth(0)).to_contain_text("Signed")
    expect(signers.nth(1)).to_contain_text("Their turn")
    expect(page.get_by_role("row", name="The lease")).to_contain_text("signed")
    happened = page.locator(".timeline > li", has_text="Ada Abel signed The lease")
    expect(happened).to_contain_text("told by a callback")
    happened.get_by_role("link", name="a callback").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Callback")
    expect(page.locator("#body")).to_contain_text('"name": "DOCUMENT_SIGNED"')
    expect(page.locator("dl.facts")).to_contain_text("DOCUMENT_SIGNED")


def test_a_raw_callback_can_be_copied(page, installation):
    """With one button; it says that it did."""
    installation.tell("PACKAGE_ARCHIVE")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/callbacks")
    page.locator("tbody a.title").first.click()

    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert '"name": "PACKAGE_ARCHIVE"' in page.evaluate("navigator.clipboard.readText()")


def test_onespan_is_asked_at_once_where_somebody_wants_it(page, installation):
    """What no event tells is seen: here another name. And the way to OneSpan's own page."""
    page.goto("/transactions/pkg-1")
    installation.quietly("rename", text="Lease of the barn")

    page.get_by_role("button", name="Ask OneSpan now").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Lease of the barn")
    expect(page).to_have_title("Lease of the barn · OneSpan Sign receiver")
    theirs = page.get_by_role("link", name="Open in OneSpan")
    assert re.fullmatch(r"http://127.0.0.1:\d+/a/transaction/pkg-1", theirs.get_attribute("href"))


REASONS = [lease(f"pkg-{number}", name=f"Lease {number}") for number in range(1, 8)]


@pytest.mark.parametrize("packages", [REASONS], ids=["seven"])
def test_what_needs_a_hand_is_grouped_by_reason_with_what_to_do(page, installation, broken):
    """It comes by itself to the open page, and each with who it is about."""
    broken.add("PACKAGE_ARCHIVE")
    page.goto("/attention")
    expect(page.get_by_role("heading", name="Nothing needs a hand")).to_be_visible()

    installation.act("lock", package="pkg-1", role=0)
    installation.act("fail kba", package="pkg-2", role=0)
    installation.act("bounce", package="pkg-3", role=0, text="BOUNCE")
    installation.tell("PACKAGE_READY_FOR_COMPLETE", package="pkg-4")
    installation.act("decline", package="pkg-5", role=0, text="Too expensive.")
    installation.act("expire", package="pkg-6")
    installation.tell("PACKAGE_ARCHIVE", package="pkg-7")

    for title, about in GROUPS.items():
        group = page.get_by_role("region", name=title)
        expect(group.locator("tbody tr")).to_have_count(1)
        expect(group.locator("tbody")).to_contain_text(about)
        expect(group.locator(".advice")).not_to_be_empty()
    expect(page.get_by_role("link", name=re.compile("Needs attention"))).to_contain_text("7 open")


GROUPS = {
    "Locked out": "Ada Abel",
    "Identity check failed": "Ada Abel",
    "E-mail came back": "the address does not take mail",
    "Ready to complete": "Lease 4",
    "Declined": "Too expensive.",
    "Expired": "Lease 6",
    "Automation stopped": "tell_the_crm",
}


def test_what_is_solved_closes_by_itself(page, installation):
    """A callback tells that it was sent again; asking OneSpan tells that a signer was let in."""
    page.goto("/attention")
    installation.act("decline", role=0, text="Too expensive.")
    expect(page.get_by_role("region", name="Declined")).to_be_visible()
    installation.act("activate")
    expect(page.get_by_role("heading", name="Nothing needs a hand")).to_be_visible()

    installation.act("lock", role=0)
    expect(page.get_by_role("region", name="Locked out")).to_contain_text(ADA.name)
    installation.quietly("unlock", role=0)
    other = page.context.new_page()
    other.goto("/transactions/pkg-1")
    other.get_by_role("button", name="Ask OneSpan now").click()
    expect(page.get_by_role("heading", name="Nothing needs a hand")).to_be_visible()


def parked(page: Page) -> str:
    """How many runs are parked, as the bar says."""
    return page.get_by_role("navigation", name="Pages").get_by_role("link", name="Handlers")


def test_a_run_that_gave_up_is_run_again_and_the_history_says_who_wanted_it(page, installation, broken):
    """After its cause is mended; the open page shows it parked, and then done."""
    page.goto("/transactions/pkg-1")
    broken.add("PACKAGE_ARCHIVE")
    installation.tell("PACKAGE_ARCHIVE")
    expect(page.locator("main")).to_contain_text("The CRM does not know PACKAGE_ARCHIVE.")
    expect(parked(page)).to_contain_text("1 parked")

    broken.clear()
    page.get_by_role("button", name="Replay tell_the_crm for PACKAGE_ARCHIVE").click()

    expect(page.get_by_role("status").filter(has_text="It runs again;")).to_be_visible()
    expect(page.locator("main")).to_contain_text("All functions have done what they owe.")
    expect(parked(page)).to_have_text("Handlers")
    answer = page.request.get("/api/packages/pkg-1/history", headers={"Authorization": f"Bearer {TOKEN}"})
    causes = [one["cause"] for one in answer.json()["items"]]
    assert {"kind": "person", "id": "Mia"} in causes


def test_all_that_gave_up_alike_are_run_again_after_they_are_counted(page, installation, broken):
    """Only those that are chosen; nothing happens before one says yes to their number."""
    broken.update({"PACKAGE_ARCHIVE", "PACKAGE_TRASH"})
    for number in range(MANY):
        installation.tell("PACKAGE_ARCHIVE", package=f"p-{number}")
    installation.tell("PACKAGE_TRASH", package="p-0")
    page.goto("/handlers")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(MANY + 1)
    page.get_by_role("combobox", name="Event").select_option("PACKAGE_ARCHIVE")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(MANY)
    page.get_by_role("button", name="Replay all of these").click()
    expect(page.get_by_role("heading", name=f"Replay {MANY} parked runs?")).to_be_visible()
    with installation.service.database.read() as connection:
        assert queries.pulse(connection, now=installation.clock()).dispatches["parked"] == MANY + 1

    broken.clear()
    page.get_by_role("button", name=f"Replay {MANY}").click()

    expect(page.get_by_text(f"{MANY} runs are due again.")).to_be_visible()
    expect(parked(page)).to_contain_text("1 parked")
    page.goto("/handlers")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(1)


def test_what_could_not_be_read_and_what_is_not_known_can_be_found(page, installation):
    """With the reason, and with a mark."""
    assert installation.post(b"<callback/>") == 400
    installation.tell("PACKAGE_NOTARIZED")
    page.goto("/events")
    expect(page.locator("tbody tr", has_text="PACKAGE_NOTARIZED")).to_contain_text("unknown")

    page.get_by_role("link", name="Callbacks as they came").click()
    page.get_by_role("link", name="Unreadable").click()
    page.locator("tbody a.title").click()

    expect(page.locator("main")).to_contain_text("It causes nothing:")
    expect(page.locator("#body")).to_have_text("<callback/>")


def test_events_are_found_by_name_state_and_transaction(page, installation, broken):
    """Each filter acts when it is chosen, and stands in the address."""
    broken.add("PACKAGE_ARCHIVE")
    installation.tell("PACKAGE_ARCHIVE")
    installation.tell("PACKAGE_TRASH", package="pkg-2")
    page.goto("/events")
    rows = page.locator("tbody a.title")
    expect(rows).to_have_text(["PACKAGE_TRASH", "PACKAGE_ARCHIVE"])

    page.get_by_role("combobox", name="Event").select_option("PACKAGE_TRASH")
    expect(rows).to_have_text(["PACKAGE_TRASH"])
    page.get_by_role("combobox", name="Event").select_option("Every event")
    page.get_by_label("With a run that is").select_option("Parked")
    expect(rows).to_have_text(["PACKAGE_ARCHIVE"])
    page.get_by_label("With a run that is").select_option("In any state")
    page.get_by_label("Transaction id").press_sequentially("pkg-2")
    expect(rows).to_have_text(["PACKAGE_TRASH"])
    expect(page).to_have_url(f"{installation.address}/events?package=pkg-2")


def test_a_reconcile_can_be_asked_for_and_followed(page, installation):
    """While it is under way and when it is done, with what it found; it says who wanted it."""
    installation.quietly("decline", role=0, text="Too expensive.")
    page.goto("/health")
    installation.onespan_may_answer.clear()

    page.get_by_role("button", name="Reconcile now").click()

    asking = page.locator("#reconcile")
    expect(asking.get_by_role("progressbar", name="The reconcile is under way")).to_be_visible()
    expect(asking).to_contain_text("Mia asked for it")
    expect(page.get_by_role("button", name="Reconcile now")).to_be_disabled()
    installation.onespan_may_answer.set()
    expect(asking).to_contain_text("Last asked just now")
    expect(asking.locator("tbody tr").first).to_contain_text("somebody asked (Mia)")
    expect(page.get_by_role("button", name="Reconcile now")).to_be_enabled()
    page.goto("/events")
    expect(page.locator("tbody tr", has_text="PACKAGE_DECLINE")).to_contain_text("Found by asking")


@pytest.mark.parametrize("packages", [[]], ids=["nothing"])
def test_a_fresh_install_says_what_to_do_and_tries_itself(page, installation):
    """The test callback goes the whole way, and makes no transaction of anybody's."""
    page.goto("/")
    expect(page.get_by_role("heading", name="No callback of OneSpan has come yet")).to_be_visible()
    expect(page.locator("main")).to_contain_text("/onespan/callback")

    page.get_by_role("button", name="Send a test callback").click()

    expect(page).to_have_url(f"{installation.address}/events")
    row = page.locator("tbody tr", has_text="RECEIVER_TEST")
    expect(row).to_contain_text("all done")


def test_who_only_looks_has_nothing_to_press_and_is_refused(installation, visit, broken, complaints):
    """No button but those of the filters and the way out; what somebody forges all the same is 403."""
    complaints.forgive("403")
    broken.add("PACKAGE_ARCHIVE")
    installation.tell("PACKAGE_ARCHIVE")
    installation.settled()
    page = log_in(visit(installation.address), "the-password-to-look", name="Lou")
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
        expect(page.locator("header")).to_contain_text("Lou (looking only)")
        forms = page.locator("form[method=post]")
        expect(forms).to_have_count(1)
        expect(forms).to_contain_text("Log out")

    page.goto("/handlers")
    page.locator("form[action='/logout']").evaluate("form => { form.action = '/dispatches/1/replay'; }")
    with page.expect_navigation() as answer:
        page.get_by_role("button", name="Log out").click()

    assert answer.value.status == 403
    expect(page.locator("main")).to_contain_text("You are logged in with the password for looking.")

"""The list of transactions: search, status counts, filters, sorting, pages and CSV export."""

import csv
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from app.simulator.packages import Package
from tests.browser.conftest import IN_A_BROWSER, log_in
from tests.browser.live_service import ADA, CLEO, Person, Role, lease

pytestmark = IN_A_BROWSER

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
ZOE = Person("zoe", "Zoë", "Zimt", "zoe@far.example", "")


def one_of_each() -> list[Package]:
    """One package of each kind that the filters distinguish."""
    only_zoe = (Role("role-zoe", 1, ZOE), Role("role-ben", 1, ADA), Role("role-cleo", 3, CLEO, is_sender=True))
    return [
        lease("open", name="Lease of the mill", due=NOW + DAY),
        lease("late", name="Loan for Zoë", roles=only_zoe, due=NOW - DAY, created=NOW - 40 * DAY),
        lease("draft", name="Draft of an offer", status="DRAFT", due=None),
        lease("declined", name="Sale of the barn", status="DECLINED", due=NOW + 3 * DAY),
        lease("thrown", name="Thrown away", trashed=True),
        lease("model", name="Model lease", type="TEMPLATE", status="DRAFT"),
    ]


def many(number: int) -> list[Package]:
    """The given number of packages with the same date, so that only the id determines their order."""
    return [lease(f"p-{index:03}", name=f"Lease {index:03}", created=NOW, updated=NOW) for index in range(number)]


def with_packages(packages: list[Package]) -> pytest.MarkDecorator:
    """A mark that runs a test with these packages in OneSpan."""
    return pytest.mark.parametrize("packages", [packages], ids=[str(len(packages))])


def names(page: Page) -> list[str]:
    """The names of the transactions in the list."""
    return page.locator("tbody a.title").all_inner_texts()


def expect_names(page: Page, *expected: str) -> None:
    """Wait until the list shows these names, in this order."""
    expect(page.locator("tbody a.title")).to_have_text(list(expected))


@with_packages(one_of_each())
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("zoe@far", "Loan for Zoë"),
        ("Zimt", "Loan for Zoë"),
        ("of the mill", "Lease of the mill"),
        ("draft", "Draft of an offer"),
    ],
)
def test_list_searches_while_typing(page, words, found):
    """While the user types, the list shows matching names, ids, signers and emails; the search is part of the URL."""
    page.goto("/")

    page.get_by_label("Search").press_sequentially(words)

    expect_names(page, found)
    assert re.search(r"/\?q=", page.url)


@with_packages(one_of_each())
def test_text_typed_before_the_scripts_load_is_searched(page):
    """Text that a user types on a slow connection is searched once the scripts have loaded."""
    held = []

    def hold(route):
        held.append(route)

    page.route("**/app.js*", hold)
    page.goto("/", wait_until="commit")
    page.get_by_label("Search").press_sequentially("Lease")

    with page.expect_request(re.compile(r"q=Lease")):
        held[0].continue_()

    expect_names(page, "Lease of the mill")
    expect(page).to_have_url(re.compile(r"/\?q=Lease"))


@with_packages(one_of_each())
def test_search_can_be_reloaded_shared_and_undone(page, visit, live_service):
    """The URL holds the whole search. The Back button returns to the list before, and empties the search field."""
    page.goto("/")
    page.get_by_label("Search").press_sequentially("Lease")
    expect_names(page, "Lease of the mill")
    page.reload()
    expect_names(page, "Lease of the mill")
    expect(page.get_by_label("Search")).to_have_value("Lease")

    other = log_in(visit(live_service.address))
    other.goto(page.url)
    expect_names(other, "Lease of the mill")
    page.go_back()

    expect(page).to_have_url(f"{live_service.address}/")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.get_by_label("Search")).to_have_value("")
    page.go_forward()
    expect_names(page, "Lease of the mill")
    expect(page.get_by_label("Search")).to_have_value("Lease")


@with_packages(one_of_each())
def test_status_counts_are_filters(page):
    """A click on a status count lists the transactions of that status and marks the count as current."""
    page.goto("/")
    counts = page.get_by_role("navigation", name="By status")
    expect(counts.get_by_role("link")).to_have_text([re.compile(pattern) for pattern in COUNTS])

    counts.get_by_role("link", name="Declined 1").click()

    expect_names(page, "Sale of the barn")
    expect(page).to_have_url(re.compile("status=DECLINED"))
    expect(counts.get_by_role("link", name="Declined 1")).to_have_attribute("aria-current", "true")
    page.get_by_label("Search").press_sequentially("mill")
    expect(page.get_by_role("heading", name="No transactions match your search and filters.")).to_be_visible()
    page.get_by_role("link", name="Show all transactions").click()
    expect(page.locator("tbody tr")).to_have_count(4)


COUNTS = (r"All\s+4", r"In progress\s+2", r"Draft\s+1", r"Declined\s+1")


@with_packages(one_of_each())
def test_list_can_be_filtered_by_attention_view_and_date(page):
    """The filters for attention, view and date apply as soon as the user changes them."""
    page.goto("/")
    page.get_by_label("Attention").select_option("Declined")
    expect_names(page, "Sale of the barn")
    page.get_by_label("Attention").select_option("Any")
    page.get_by_label("View").select_option("In trash")
    expect_names(page, "Thrown away")
    page.get_by_label("View").select_option("Templates")
    expect_names(page, "Model lease")
    page.get_by_label("View").select_option("Active")
    page.get_by_label("Created to").fill(f"{NOW - 30 * DAY:%Y-%m-%d}")
    expect_names(page, "Loan for Zoë")
    expect(page).to_have_url(re.compile(r"/\?until=[-\d]{10}$"))


@with_packages(one_of_each())
def test_date_applies_once_its_year_is_complete(page, live_service):
    """An incomplete or invalid date sends no request, so no request is refused."""
    page.goto("/")
    page.get_by_label("Created to").focus()
    page.keyboard.type("01012001", delay=300)
    expect(page).to_have_url(f"{live_service.address}/?until=2001-01-01")
    expect(page.get_by_role("heading", name="No transactions match your search and filters.")).to_be_visible()

    page.get_by_label("Created to").fill("20266-01-01")

    expect(page).to_have_url(f"{live_service.address}/")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("#connection-status")).to_have_text("Live")
    assert {status for _, path, status in live_service.responses if path == "/"} <= {200, 304}


@with_packages(one_of_each())
def test_refused_filter_leads_to_an_error_page(page, live_service, page_errors):
    """A refused filter is not retried but leads to an error page, from which Back returns to the list."""
    page_errors.allow("400")
    page.goto("/")
    expect(page.locator("#connection-status")).to_have_text("Live")

    # In one step, because a live update between two steps would restore the attribute.
    page.get_by_label("Created to").evaluate("""field => {
        field.removeAttribute("max");
        field.value = "20266-01-01";
        field.dispatchEvent(new Event("input", { bubbles: true }));
    }""")

    expect(page.get_by_role("heading", level=1)).to_have_text("Invalid request")
    expect(page.locator("main")).to_contain_text("until: Input should be a valid date")
    assert page.url.endswith("/?until=20266-01-01")
    page.wait_for_timeout(2500)
    assert [status for _, _, status in live_service.responses if status == 400] == [400, 400]
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("#connection-status")).to_have_text("Live")


@with_packages(one_of_each())
def test_refused_filter_before_the_first_update_leads_to_an_error_page(page, page_errors):
    """A filter that is refused before the page has updated itself once leads to the error page, too."""
    page_errors.allow("400")
    held = []

    def hold_first_update(route):
        if "x-live" in route.request.headers and not held:
            held.append(route)
        else:
            route.continue_()

    page.route("**/*", hold_first_update)
    page.goto("/")
    until = page.get_by_label("Created to")
    until.evaluate("field => field.removeAttribute('max')")
    with page.expect_request(lambda request: "until=20266" in request.url):
        until.fill("20266-01-01")

    expect(page.get_by_role("heading", level=1)).to_have_text("Invalid request")


@with_packages(one_of_each())
def test_column_headers_sort_the_list(page):
    """A click on a column header sorts the list, a second click reverses the order, and the header shows the order."""
    page.goto("/")
    heads = page.locator("thead")

    heads.get_by_role("link", name="Transaction").click()
    expect_names(page, "Draft of an offer", "Lease of the mill", "Loan for Zoë", "Sale of the barn")
    expect(heads.get_by_role("columnheader", name="Transaction")).to_have_attribute("aria-sort", "ascending")
    heads.get_by_role("link", name="Transaction").click()
    expect_names(page, "Sale of the barn", "Loan for Zoë", "Lease of the mill", "Draft of an offer")
    page.goto("/?status=SENT")
    heads.get_by_role("link", name="Due").click()
    expect_names(page, "Loan for Zoë", "Lease of the mill")
    expect(page.locator("tbody tr").first).to_contain_text("Overdue: yesterday")


@with_packages(many(120))
def test_pages_show_each_transaction_once(page):
    """Pages show each transaction once, even if all have the same date; Previous leads back over the same pages."""
    page.goto("/?sort=created_at")
    shown = [names(page)]
    for number in (2, 3):
        page.get_by_role("link", name="Next").click()
        expect(page.locator("tbody tr")).to_have_count(50 if number < 3 else 20)
        page.wait_for_url(lambda url, seen=number: url.count("cursor") == 1 and seen)
        shown.append(names(page))
    assert len({name for names_of_page in shown for name in names_of_page}) == 120
    expect(page.get_by_role("link", name="Next")).to_have_count(0)

    for before in reversed(shown[:-1]):
        page.get_by_role("link", name="Previous").click()
        expect_names(page, *before)
    expect(page.get_by_role("link", name="Previous")).to_have_count(0)


@with_packages(
    [*one_of_each(), lease("sum", name="=1+1", status="DECLINED"), lease("at", name="  @SUM(A1)", status="DECLINED")]
)
def test_list_can_be_exported_as_csv(page, tmp_path: Path):
    """The filters apply to the CSV export, and a cell that looks like a formula becomes text."""
    page.goto("/?status=DECLINED&sort=name")

    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()

    download.value.save_as(tmp_path / "view.csv")
    rows = list(csv.DictReader((tmp_path / "view.csv").read_text("utf-8-sig").splitlines()))
    assert [row["id"] for row in rows] == ["at", "declined", "sum"]
    assert {row["name"] for row in rows} == {"  '@SUM(A1)", "'=1+1", "Sale of the barn"}
    assert rows[0]["sender_email"] == CLEO.email


@with_packages(many(420))
def test_large_csv_is_streamed(page, live_service):
    """A large CSV export is streamed and has each transaction once."""
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}

    answer = requests.get(f"{live_service.address}/transactions.csv", cookies=cookies, stream=True, timeout=10)

    assert "Content-Length" not in answer.headers
    assert answer.raw.chunked
    rows = list(csv.DictReader(answer.content.decode("utf-8-sig").splitlines()))
    assert len({row["id"] for row in rows}) == len(rows) == 420

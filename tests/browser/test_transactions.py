"""The list of transactions: search, counts that are the filter, filters, order, pages, and the same as a file."""

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


def sorts() -> list[Package]:
    """One of each kind that the filters tell apart."""
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
    """As many, which have all the same date: the last thing that tells their places apart is their id."""
    return [lease(f"p-{one:03}", name=f"Lease {one:03}", created=NOW, updated=NOW) for one in range(number)]


def one_of(packages: list[Package]) -> pytest.MarkDecorator:
    """The test has these at OneSpan."""
    return pytest.mark.parametrize("packages", [packages], ids=[str(len(packages))])


def names(page: Page) -> list[str]:
    """What the list shows."""
    return page.locator("tbody a.title").all_inner_texts()


def shows(page: Page, *wanted: str) -> None:
    """It comes to show just these, in this order."""
    expect(page.locator("tbody a.title")).to_have_text(list(wanted))


@one_of(sorts())
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("zoe@far", "Loan for Zoë"),
        ("Zimt", "Loan for Zoë"),
        ("of the mill", "Lease of the mill"),
        ("draft", "Draft of an offer"),
    ],
)
def test_it_searches_while_one_types(page, words, found):
    """By name, id, signer's name and e-mail; the address holds the search."""
    page.goto("/")

    page.get_by_label("Search").press_sequentially(words)

    shows(page, found)
    assert re.search(r"/\?q=", page.url)


@one_of(sorts())
def test_what_is_typed_before_the_scripts_load_is_searched(page):
    """On a slow line people type first; what they typed is searched once the scripts are there."""
    held = []

    def hold(route):
        held.append(route)

    page.route("**/app.js*", hold)
    page.goto("/", wait_until="commit")
    page.get_by_label("Search").press_sequentially("Lease")

    with page.expect_request(re.compile(r"q=Lease")):
        held[0].continue_()

    shows(page, "Lease of the mill")
    expect(page).to_have_url(re.compile(r"/\?q=Lease"))


@one_of(sorts())
def test_a_view_can_be_reloaded_shared_and_left_again(page, visit, installation):
    """All of it stands in the address; Back leads to the view before it, and empties what was typed."""
    page.goto("/")
    page.get_by_label("Search").press_sequentially("Lease")
    shows(page, "Lease of the mill")
    page.reload()
    shows(page, "Lease of the mill")
    expect(page.get_by_label("Search")).to_have_value("Lease")

    other = log_in(visit(installation.address))
    other.goto(page.url)
    shows(other, "Lease of the mill")
    page.go_back()

    expect(page).to_have_url(f"{installation.address}/")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.get_by_label("Search")).to_have_value("")
    page.go_forward()
    shows(page, "Lease of the mill")
    expect(page.get_by_label("Search")).to_have_value("Lease")


@one_of(sorts())
def test_counts_are_the_filter(page):
    """How many there are of each status; one of them is the list of those, and says that it is on."""
    page.goto("/")
    shelves = page.get_by_role("navigation", name="By status")
    expect(shelves.get_by_role("link")).to_have_text([re.compile(one) for one in COUNTS])

    shelves.get_by_role("link", name="Declined 1").click()

    shows(page, "Sale of the barn")
    expect(page).to_have_url(re.compile("status=DECLINED"))
    expect(shelves.get_by_role("link", name="Declined 1")).to_have_attribute("aria-current", "true")
    page.get_by_label("Search").press_sequentially("mill")
    expect(page.get_by_role("heading", name="No transaction is like that")).to_be_visible()
    page.get_by_role("link", name="Show all transactions").click()
    expect(page.locator("tbody tr")).to_have_count(4)


COUNTS = (r"All\s+4", r"In progress\s+2", r"Draft\s+1", r"Declined\s+1")


@one_of(sorts())
def test_it_can_be_narrowed_by_what_needs_attention_by_place_and_by_date(page):
    """Each filter acts when it is chosen."""
    page.goto("/")
    page.get_by_label("Needs attention").select_option("Declined")
    shows(page, "Sale of the barn")
    page.get_by_label("Needs attention").select_option("All")
    page.get_by_label("Show").select_option("In the trash")
    shows(page, "Thrown away")
    page.get_by_label("Show").select_option("Templates")
    shows(page, "Model lease")
    page.get_by_label("Show").select_option("Current")
    page.get_by_label("to", exact=True).fill(f"{NOW - 30 * DAY:%Y-%m-%d}")
    shows(page, "Loan for Zoë")
    expect(page).to_have_url(re.compile(r"/\?until=[-\d]{10}$"))


@one_of(sorts())
def test_a_year_is_asked_for_when_it_is_typed(page, installation):
    """Not before, and not when it is none; nothing that is refused is asked for."""
    page.goto("/")
    page.get_by_label("to", exact=True).focus()
    page.keyboard.type("01012001", delay=300)
    expect(page).to_have_url(f"{installation.address}/?until=2001-01-01")
    expect(page.get_by_role("heading", name="No transaction is like that")).to_be_visible()

    page.get_by_label("to", exact=True).fill("20266-01-01")

    expect(page).to_have_url(f"{installation.address}/")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("#pulse")).to_have_text("Live")
    assert {status for _, path, status in installation.answered if path == "/"} <= {200, 304}


@one_of(sorts())
def test_what_is_refused_is_said_on_a_page_that_leads_back(page, installation, complaints):
    """It is no outage; nothing is asked again and again."""
    complaints.forgive("400")
    page.goto("/")
    expect(page.locator("#pulse")).to_have_text("Live")
    until = page.get_by_label("to", exact=True)
    until.evaluate("field => field.removeAttribute('max')")

    until.fill("20266-01-01")

    expect(page.get_by_role("heading", level=1)).to_have_text("Invalid request")
    expect(page.locator("main")).to_contain_text("until: Input should be a valid date")
    assert page.url.endswith("/?until=20266-01-01")
    page.wait_for_timeout(2500)
    assert [status for _, _, status in installation.answered if status == 400] == [400, 400]
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("#pulse")).to_have_text("Live")


@one_of(sorts())
def test_a_column_is_the_order(page):
    """A second click turns it round; the head says so."""
    page.goto("/")
    heads = page.locator("thead")

    heads.get_by_role("link", name="Transaction").click()
    shows(page, "Draft of an offer", "Lease of the mill", "Loan for Zoë", "Sale of the barn")
    expect(heads.get_by_role("columnheader", name="Transaction")).to_have_attribute("aria-sort", "ascending")
    heads.get_by_role("link", name="Transaction").click()
    shows(page, "Sale of the barn", "Loan for Zoë", "Lease of the mill", "Draft of an offer")
    page.goto("/?status=SENT")
    heads.get_by_role("link", name="Due").click()
    shows(page, "Loan for Zoë", "Lease of the mill")
    expect(page.locator("tbody tr").first).to_contain_text("Overdue: yesterday")


@one_of(many(120))
def test_pages_lead_on_and_back_over_every_one_once(page):
    """Though all have the same date."""
    page.goto("/?sort=created_at")
    there = [names(page)]
    for number in (2, 3):
        page.get_by_role("link", name="Next").click()
        expect(page.locator("tbody tr")).to_have_count(50 if number < 3 else 20)
        page.wait_for_url(lambda url, seen=number: url.count("cursor") == 1 and seen)
        there.append(names(page))
    assert len({one for shown in there for one in shown}) == 120
    expect(page.get_by_role("link", name="Next")).to_have_count(0)

    for before in reversed(there[:-1]):
        page.get_by_role("link", name="Previous").click()
        shows(page, *before)
    expect(page.get_by_role("link", name="Previous")).to_have_count(0)


@one_of([*sorts(), lease("sum", name="=1+1", status="DECLINED"), lease("at", name="  @SUM(A1)", status="DECLINED")])
def test_the_view_can_be_taken_along_as_a_file(page, tmp_path: Path):
    """What is filtered away is not in it; what a spreadsheet would take for a formula is a text."""
    page.goto("/?status=DECLINED&sort=name")

    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()

    download.value.save_as(tmp_path / "view.csv")
    rows = list(csv.DictReader((tmp_path / "view.csv").read_text("utf-8-sig").splitlines()))
    assert [one["id"] for one in rows] == ["at", "declined", "sum"]
    assert {one["name"] for one in rows} == {"  '@SUM(A1)", "'=1+1", "Sale of the barn"}
    assert rows[0]["sender_email"] == CLEO.email


@one_of(many(420))
def test_a_large_file_is_written_as_it_is_read(page, installation):
    """In pieces, each transaction once."""
    cookies = {one["name"]: one["value"] for one in page.context.cookies()}

    answer = requests.get(f"{installation.address}/transactions.csv", cookies=cookies, stream=True, timeout=10)

    assert "Content-Length" not in answer.headers
    assert answer.raw.chunked
    rows = list(csv.DictReader(answer.content.decode("utf-8-sig").splitlines()))
    assert len({one["id"] for one in rows}) == len(rows) == 420
